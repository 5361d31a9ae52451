"""The operator cases of the onnx wheel, as models to differentiate: one node, or an expanded function."""

import warnings
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, checker, numpy_helper

from onnxcam.arrays import Array
from onnxcam.autodiff.rules import DEFAULT
from onnxcam.model.load import load
from onnxcam.passes.expand_functions import expand_functions, has_function_body
from tests.autodiff.support.check import (
    Runner,
    model_from_graph,
    run,
    run_by_reference,
    with_output_types,
)
from tests.autodiff.support.differences import change_types, float64_evaluator, widen_floats
from tests.autodiff.support.exceptions import EXCEPTIONS

CAST = {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
FLOATS = CAST | {TensorProto.FLOAT}
OPSETS = (25, 24, 23, 21)  # tried for a case of an opset that ONNX Runtime does not have yet


@dataclass(frozen=True)
class Case:
    """A model with arrays for its inputs. `wrt`: for each output, the inputs that a derivative flows to."""

    name: str
    proto: onnx.ModelProto
    arrays: dict[str, Any]
    wrt: dict[str, tuple[str, ...]]
    runner: Runner

    def with_unknown_sizes(self) -> onnx.ModelProto:
        """The model with names in place of every size of its inputs but the number of channels."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        for tensor in proto.graph.input:
            for axis, dim in enumerate(tensor.type.tensor_type.shape.dim):
                if axis != 1:
                    dim.dim_param = f"n{dim.dim_value}"
        return proto


class LeftOutError(Exception):
    """The reason why a case is not a test of gradients."""


@lru_cache(maxsize=1)
def wheel_cases() -> dict[str, Any]:
    """All cases by name."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():  # the generators compute with infinities and NaNs on purpose
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    return {case.name: case for case in sorted(cases, key=lambda case: str(case.name))}


def prepare(name: str) -> Case:
    """The case in float32, at an opset that can be run; LeftOutError with the reason.

    What can be said of the model alone is said first, without asking onnxcam.
    """
    if name in EXCEPTIONS:
        raise LeftOutError(EXCEPTIONS[name])
    case = wheel_cases()[name]
    if [opset.domain for opset in case.model.opset_import] != [""]:
        raise LeftOutError("not of the default domain")
    proto = _in_float32(case.model)
    if any(attribute.HasField("g") for node in proto.graph.node for attribute in node.attribute):
        raise LeftOutError("has a loop or a branch")
    arrays = input_arrays(name)
    outputs = [
        tensor.name for tensor in proto.graph.output if tensor.type.tensor_type.elem_type in FLOATS
    ]
    if not outputs:
        raise LeftOutError("no float output")
    wrt = _differentiable_inputs(proto, arrays, outputs)
    feed = {name: array for name, array in arrays.items() if name in set().union(*wrt.values())}
    _make_constant(proto, {name: array for name, array in arrays.items() if name not in feed})
    proto, runner = _runnable(proto, arrays)
    if len(proto.graph.node) > 1 and _hides_nans(proto, feed):
        raise LeftOutError("a Softmax over only -inf is NaN, which a later Where hides")
    return Case(name, proto, feed, wrt, runner)


def input_arrays(name: str) -> dict[str, Array]:
    """The data of a case, for each input; floats of any width as float32."""
    case = wheel_cases()[name]
    names = [tensor.name for tensor in case.model.graph.input]
    return dict(zip(names, map(_float32_array, case.data_sets[0][0]), strict=False))


def _float32_array(data: Any) -> Array:
    if isinstance(data, list) or data is None:
        raise LeftOutError("sequence or optional inputs")
    array = numpy_helper.to_array(data) if isinstance(data, TensorProto) else np.asarray(data)
    if array.dtype.kind in "OSU":
        raise LeftOutError("string inputs")
    return array.astype(np.float32) if _is_float(array) else array


def _is_float(array: Array) -> bool:
    return array.dtype.kind == "f" or array.dtype == ml_dtypes.bfloat16


def _in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    is_function = len(model.graph.node) > 1  # the type that a lone Cast casts to is its subject
    proto = change_types(model, CAST if is_function else (), TensorProto.FLOAT)
    for tensor in proto.graph.input:
        if tensor.type.tensor_type.elem_type in CAST:
            tensor.type.tensor_type.elem_type = TensorProto.FLOAT
    return proto


def _differentiable_inputs(
    proto: onnx.ModelProto, arrays: dict[str, Array], outputs: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """For each output, the inputs of floats that a derivative flows to; the others become constants."""
    floats = [name for name, array in arrays.items() if array.dtype == np.float32 and array.size]
    if not floats:
        raise LeftOutError("no float input with an element")
    operators = {node.op_type for node in proto.graph.node}
    if len(proto.graph.node) == 1 and not any(map(has_gradient, operators)):
        raise LeftOutError("an operator without a gradient rule")
    if all(op in DEFAULT and not DEFAULT[op].functions for op in operators):
        raise LeftOutError("a step function, whose derivative is 0 wherever it exists")
    _make_constant(proto, {name: array for name, array in arrays.items() if name not in floats})
    tensors = {name: tensors_reached_from(proto, name) for name in floats}
    wrt = {output: tuple(n for n in floats if output in tensors[n]) for output in outputs}
    if not any(wrt.values()):
        raise LeftOutError("no derivative flows from a float input to an output")
    return {output: names for output, names in wrt.items() if names}


def has_gradient(operator: str) -> bool:
    """Whether there is a rule, or a definition by operators that may have one."""
    return operator in DEFAULT or has_function_body(operator, onnx.defs.onnx_opset_version())


def tensors_reached_from(proto: onnx.ModelProto, source: str) -> set[str]:
    """The tensors that a derivative by `source` flows to: through floats, and not into weights."""
    if any(node.op_type not in DEFAULT for node in proto.graph.node):
        model = load(proto)
        if expand_functions(model.graph, [n for n in model.graph.nodes if n.op not in DEFAULT]):
            proto = model.proto()
    inferred = onnx.shape_inference.infer_shapes(proto)
    not_floats = {
        tensor.name
        for tensor in (*inferred.graph.value_info, *inferred.graph.output)
        if tensor.type.tensor_type.elem_type not in FLOATS
    }
    names = {source}
    for node in proto.graph.node:
        rule = DEFAULT.get(node.op_type)
        if any(
            name in names and (rule is None or rule.function(slot))
            for slot, name in enumerate(node.input)
        ):
            names.update(set(node.output) - not_floats)
    return names


def _make_constant(proto: onnx.ModelProto, constants: dict[str, Array]) -> None:
    """Turn inputs into initializers, in place."""
    inputs = list(proto.graph.input)
    del proto.graph.input[:]
    for tensor in inputs:
        if tensor.name in constants:
            array = numpy_helper.from_array(constants[tensor.name], tensor.name)
            proto.graph.initializer.append(array)
        else:
            proto.graph.input.append(tensor)


def _runnable(proto: onnx.ModelProto, arrays: dict[str, Array]) -> tuple[onnx.ModelProto, Runner]:
    """The model and what runs it: ONNX Runtime at its own opset or an older one, or onnx's reference."""
    opset = proto.opset_import[0].version
    older = [candidate for candidate in OPSETS if candidate < opset]
    attempts: list[tuple[int, Runner]] = [(version, run) for version in (opset, *older)]
    for version, runner in (*attempts, (opset, run_by_reference)):
        candidate = with_output_types(model_from_graph(proto.graph, version))
        try:
            checker.check_model(candidate, full_check=True)
            values = runner(candidate, arrays, [tensor.name for tensor in candidate.graph.output])
        except Exception:  # noqa: BLE001  whatever the checker, the runtime and the reference raise
            continue
        if not all(np.isfinite(value).all() for value in values if _is_float(value)):
            raise LeftOutError("its data cause infinities or NaNs")
        return candidate, runner
    raise LeftOutError("neither ONNX Runtime nor onnx's reference runs it")


def _hides_nans(proto: onnx.ModelProto, arrays: dict[str, Array]) -> bool:
    feed = {name: widen_floats(array) for name, array in arrays.items()}
    with np.errstate(all="ignore"):
        values = float64_evaluator(proto).run(None, feed, intermediate=True)
    written = [
        np.asarray(values[name])
        for node in proto.graph.node
        for name in node.output
        if name in values
    ]
    return any(np.isnan(value).any() for value in written if value.dtype.kind == "f")
