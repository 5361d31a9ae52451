"""Gradients that onnxcam writes, run by ONNX Runtime in float32, against differences in float64."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxcam.arrays import Array
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.checked_operators import record
from tests.autodiff.support.differences import (
    Doubles,
    KinkError,
    float64_evaluator,
    function,
    slope,
)
from tests.autodiff.support.reference import replacement_operators

Runner: TypeAlias = Callable[[onnx.ModelProto, Mapping[str, Any], Sequence[str]], list[Any]]

TOLERANCE = 2e-5  # of the norm of the gradient: float32 rounding, and no more
LEAST = 1e-3  # a gradient of a smaller norm is measured against this
SMALL = 16  # elements: up to here every one is checked, beyond some of them and random mixtures
NEWEST_IR = 13  # of ONNX Runtime 1.31


def numbers(
    *shape: int, seed: int = 0, low: float = -1.0, high: float = 1.0
) -> NDArray[np.float32]:
    """Distinct float32 numbers, no two closer than the range over twice their count, none at 0."""
    generator = np.random.default_rng([seed, *shape])
    count = int(np.prod(shape))
    steps = (generator.permutation(count) + generator.uniform(0.3, 0.7, count)) / max(count, 1)
    return (low + (high - low) * steps).astype(np.float32).reshape(shape)


def ints(*values: int) -> Array:
    """The int64 tensor of indices, sizes or axes."""
    return np.array(values, np.int64)


def check_vjp(
    op: str,
    *arrays: Any,
    wrt: Collection[int] = (0,),
    opset: int = 17,
    dynamic: Collection[int] = (),
    name_by_size: bool = True,
    outputs: int = 1,
    output: int = 0,
    runner: Runner | None = None,
    **attributes: Any,
) -> Model:
    """Check one operator and return the model with the gradient.

    `arrays` are the inputs, None for one that is omitted. Those in slots `wrt` are fed, the others constant.
    The axes `dynamic` of fed inputs have names instead of sizes: one name per size, or, if not `name_by_size`,
    one per axis. The gradient is that of the output number `output` of `outputs`.
    """
    inputs: list[Any] = [None if array is None else np.asarray(array) for array in arrays]
    names = ["" if array is None else f"x{slot}" for slot, array in enumerate(inputs)]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], name="node", **attributes)
    feed = {names[slot]: inputs[slot] for slot in wrt}
    fixed = {n: array for n, array in zip(names, inputs, strict=True) if n and n not in feed}
    proto = one_node_model(node, feed, fixed, opset, dynamic, name_by_size)
    return check_model(proto, feed, list(feed), f"y{output}", runner or run)


def one_node_model(
    node: onnx.NodeProto,
    feed: Mapping[str, Array],
    fixed: Mapping[str, Array],
    opset: int,
    dynamic: Collection[int] = (),
    name_by_size: bool = True,
) -> onnx.ModelProto:
    """A model of one node: `feed` says the inputs, `fixed` the constants."""
    inputs = [
        helper.make_tensor_value_info(
            name,
            helper.np_dtype_to_tensor_dtype(array.dtype),
            [
                (f"n{size}" if name_by_size else f"{name}_{axis}") if axis in dynamic else size
                for axis, size in enumerate(array.shape)
            ],
        )
        for name, array in feed.items()
    ]
    outputs = [helper.make_tensor_value_info(name, 0, None) for name in node.output if name]
    constants = [numpy_helper.from_array(array, name) for name, array in fixed.items()]
    graph = helper.make_graph([node], "one", inputs, outputs, constants)
    return with_output_types(model_from_graph(graph, opset))


def model_from_graph(graph: onnx.GraphProto, opset: int) -> onnx.ModelProto:
    """A model that ONNX Runtime reads."""
    imports = [helper.make_opsetid("", opset)]
    ir_version = min(helper.find_min_ir_version_for(imports, ignore_unknown=True), NEWEST_IR)
    return helper.make_model(graph, opset_imports=imports, ir_version=max(ir_version, 4))


def with_output_types(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with inferred types of its outputs; where their rank is not inferred, it is retained."""
    declared = list(proto.graph.output)
    ranks = {output.name: len(output.type.tensor_type.shape.dim) for output in declared}
    del proto.graph.output[:]
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    types = {tensor.name: tensor for tensor in inferred.graph.value_info}
    for output in (types.get(output.name, output) for output in declared):
        tensor = output.type.tensor_type
        # onnx has no inference for it
        tensor.elem_type = tensor.elem_type or onnx.TensorProto.FLOAT
        if not tensor.HasField("shape"):
            tensor.shape.dim.extend(
                onnx.TensorShapeProto.Dimension() for _ in range(ranks[output.name])
            )
        proto.graph.output.append(output)
    return proto


def check_model(
    proto: onnx.ModelProto,
    feed: Mapping[str, Any],
    wrt: Sequence[str],
    of: str,
    runner: Runner | None = None,
) -> Model:
    """Check the gradients of a whole model, one input after the other, in several directions.

    `runner` computes values and gradients in float32: ONNX Runtime, if nothing else is said.
    """
    execute = runner or run
    augmented = gradient(load(proto), wrt, of)
    emitted = augmented.proto()
    assert_valid(emitted, {node.domain for node in proto.graph.node})
    value = np.asarray(execute(proto, feed, [of])[0])
    generator = np.random.default_rng(len(feed))
    cotangent = generator.normal(size=value.shape).astype(value.dtype)
    names = [f"gradient/{name}" for name in wrt]
    value_again, *gradients = execute(emitted, {**feed, SEED: cotangent}, [of, *names])
    np.testing.assert_allclose(value_again, value, rtol=1e-5, atol=1e-6)
    evaluator = float64_evaluator(proto)
    for name, computed in zip(wrt, gradients, strict=True):
        assert computed.shape == feed[name].shape
        assert computed.dtype == feed[name].dtype
        x, g = feed[name].astype(np.float64), computed.astype(np.float64)
        f = function(evaluator, feed, name, of)
        y = f(x)
        np.testing.assert_allclose(y, value, 1e-2, 1e-3, err_msg="evaluator, not runtime:")
        if not np.isfinite(g).all():
            raise KinkError(f"the gradient of {name} is infinite or not a number")
        for direction in directions(x.shape, generator):
            exact = slope(f, x, y, direction, cotangent.astype(np.float64))
            allowed = TOLERANCE * max(float(np.linalg.norm(g)), LEAST)
            by_rule = float(np.sum(g * direction))
            assert abs(by_rule - exact) <= allowed, (
                f"{name}: {by_rule} by the rule, {exact} measured"
            )
    record(proto, wrt, of)
    return augmented


def directions(shape: tuple[int, ...], generator: np.random.Generator) -> Iterator[Doubles]:
    """Every element of few; of many two mixtures of all and four alone."""
    count = int(np.prod(shape))
    if count > SMALL:
        for _ in range(2):
            yield generator.normal(size=shape)
    alone = range(count) if count <= SMALL else generator.choice(count, 4, replace=False)
    for index in alone:
        one = np.zeros(count)
        one[index] = 1.0
        yield one.reshape(shape)


def assert_valid(emitted: onnx.ModelProto, known_domains: Collection[str] = ("",)) -> None:
    """The checker has nothing to say, and no domain is new."""
    onnx.checker.check_model(emitted, full_check=True)
    assert {node.domain for node in emitted.graph.node} <= {"", *known_domains}


def run(proto: onnx.ModelProto, feed: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """The outputs of a model by ONNX Runtime on one CPU thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    inputs = {tensor.name for tensor in session.get_inputs()}
    return list(session.run(list(names), {n: array for n, array in feed.items() if n in inputs}))


def run_by_reference(
    proto: onnx.ModelProto, feed: Mapping[str, Any], names: Sequence[str]
) -> list[Any]:
    """The outputs by onnx's evaluator, of operators that ONNX Runtime does not have yet."""
    opset = next(opset.version for opset in proto.opset_import if not opset.domain)
    evaluator = ReferenceEvaluator(proto, new_ops=replacement_operators(opset))
    inputs = {tensor.name for tensor in proto.graph.input}
    with np.errstate(all="ignore"):
        return list(evaluator.run(list(names), {n: x for n, x in feed.items() if n in inputs}))
