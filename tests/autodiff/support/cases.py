"""The operator cases of the onnx wheel: one node, or a function written out, with data."""

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, checker, numpy_helper

from onnxcam.arrays import Array
from onnxcam.autodiff.rules import DEFAULT
from onnxcam.graph.opset import NEWEST
from onnxcam.model.load import load
from onnxcam.passes.expand_functions import expand_functions, has_function_body
from tests.autodiff.support.check import of_graph, run, with_output_types
from tests.autodiff.support.differences import in_float64, recast, widened

CAST = {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
FLOATS = CAST | {TensorProto.FLOAT}
OUTSIDE = {
    "test_attention_local_window_ext_cache_float16_mask_expanded": (
        "a gradient that is exactly 0, of terms that are not"
    ),
    **dict.fromkeys(
        ("test_compress_0", "test_compress_bfloat16"),
        "rows that are left out: the rows of a score are taken for the pictures that are fed",
    ),
    "test_maxunpool_export_with_output_shape": (
        "indices that count over the smaller shape to the reference, over the given one to the runtime"
    ),
    "test_attention_24_qk_matmul_output_mode3_softmax_precision": (
        "the reference rounds to the precision of the Softmax, in steps"
    ),
    **dict.fromkeys(
        (
            "test_attention_4d_with_past_and_present_qk_matmul_bias_3d_mask_causal",
            "test_attention_4d_with_past_and_present_qk_matmul_bias_4d_mask_causal",
        ),
        "the weights that are returned are masked by -inf in ONNX's definition, by -3e38 in the runtime",
    ),
    **dict.fromkeys(
        (
            f"{loss}{form}"
            for loss in (
                "test_nllloss_NCd1d2d3d4d5_mean_weight",
                "test_sce_NCd1d2d3d4d5_mean_weight",
                "test_sce_NCd1d2d3d4d5_mean_weight_log_prob",
            )
            for form in ("", "_expanded")
        ),
        "a gradient by class weights that is the small difference of large sums in float32",
    ),
    **dict.fromkeys(
        (
            "test_resize_downsample_scales_linear_align_corners",
            "test_resize_downsample_scales_cubic_align_corners",
        ),
        "the length that corners are aligned at is a fraction to the reference, whole to the runtime",
    ),
}
OPSETS = (25, 24, 23, 21)  # tried for a case of an opset that ONNX Runtime does not have yet


@dataclass(frozen=True)
class Case:
    """A model with the arrays for its inputs; those of `wrt` are to be differentiated by."""

    name: str
    proto: onnx.ModelProto
    arrays: dict[str, Any]
    wrt: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def operators(self) -> list[str]:
        found = {each.op_type for each in self.proto.graph.node}
        return sorted(each for each in found if differentiable(each))


class LeftOutError(Exception):
    """The reason why a case cannot be checked."""


@lru_cache(maxsize=1)
def collected() -> dict[str, Any]:
    """The cases by name, except those of one operator that has no rule."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():  # the generators compute with infinities and NaNs on purpose
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    return {
        each.name: each
        for each in sorted(found, key=lambda each: each.name)
        if len(each.model.graph.node) > 1 or differentiable(each.model.graph.node[0].op_type)
    }


def differentiable(operator: str) -> bool:
    """Whether there is a rule, or a definition by operators that may have one."""
    return operator in DEFAULT or has_function_body(operator, NEWEST)


def prepared(name: str) -> Case:
    """The case in float32 and at an opset that ONNX Runtime has; LeftOutError with the reason."""
    case = collected()[name]
    if name in OUTSIDE:
        raise LeftOutError(OUTSIDE[name])
    names = [each.name for each in case.model.graph.input]
    arrays = dict(zip(names, map(_array, case.data_sets[0][0]), strict=False))
    proto = _in_float32(case.model)
    if any(each.HasField("g") for node in proto.graph.node for each in node.attribute):
        raise LeftOutError("a function written out with a loop or a branch in it")
    wrt = _differentiable(proto, arrays)
    _fix(proto, {n: each for n, each in arrays.items() if n not in wrt})
    proto = _runnable(proto, arrays)
    outputs = tuple(
        each.name for each in proto.graph.output if each.type.tensor_type.elem_type in FLOATS
    )
    if not outputs:
        raise LeftOutError("no output of floats")
    given = {n: arrays[n] for n in wrt}
    if len(proto.graph.node) > 1 and _hides_nans(proto, given):
        raise LeftOutError("a Softmax over nothing but -inf is NaN, which only a later Where hides")
    return Case(name, proto, given, wrt, outputs)


def _hides_nans(proto: onnx.ModelProto, arrays: dict[str, Array]) -> bool:
    given = {name: widened(each) for name, each in arrays.items()}
    with np.errstate(all="ignore"):
        found = in_float64(proto).run(None, given, intermediate=True)
    written = [found[each] for node in proto.graph.node for each in node.output if each in found]
    return any(np.isnan(each).any() for each in written if np.asarray(each).dtype.kind == "f")


def _array(given: Any) -> Array:
    """Floats of any width as float32."""
    if isinstance(given, list) or given is None:
        raise LeftOutError("inputs that are sequences or optional")
    array = numpy_helper.to_array(given) if isinstance(given, TensorProto) else np.asarray(given)
    if array.dtype.kind in "OSU":
        raise LeftOutError("inputs that are strings")
    narrow = array.dtype.kind == "f" or array.dtype == ml_dtypes.bfloat16
    return array.astype(np.float32) if narrow else array


def _in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    whole = len(model.graph.node) > 1  # the type that a lone Cast is told is what it is for
    proto = recast(model, CAST if whole else (), TensorProto.FLOAT)
    for each in proto.graph.input:
        if each.type.tensor_type.elem_type in CAST:
            each.type.tensor_type.elem_type = TensorProto.FLOAT
    return proto


def _differentiable(proto: onnx.ModelProto, arrays: dict[str, Array]) -> tuple[str, ...]:
    """The inputs of floats that a derivative flows through."""
    floats = [n for n, each in arrays.items() if each.dtype == np.float32 and each.size]
    if not floats:
        raise LeftOutError("no input of floats that has an element")
    if all(
        node.op_type in DEFAULT and not DEFAULT[node.op_type].functions for node in proto.graph.node
    ):
        raise LeftOutError("steps: flat wherever there is a derivative")
    found = tuple(
        n
        for n in floats
        if not reached(proto, n).isdisjoint(each.name for each in proto.graph.output)
    )
    if not found:
        raise LeftOutError("the inputs of floats are not those that a derivative flows through")
    return found


def reached(proto: onnx.ModelProto, source: str) -> set[str]:
    """The tensors that a derivative by `source` flows to: through floats, and not into weights."""
    if any(each.op_type not in DEFAULT for each in proto.graph.node):
        model = load(proto)
        if expand_functions(model.graph, [n for n in model.graph.nodes if n.op not in DEFAULT]):
            proto = model.proto()
    inferred = onnx.shape_inference.infer_shapes(proto)
    others = {
        each.name
        for each in (*inferred.graph.value_info, *inferred.graph.output)
        if each.type.tensor_type.elem_type not in FLOATS
    }
    found = {source}
    for node in proto.graph.node:
        rule = DEFAULT.get(node.op_type)
        if any(
            name in found and (rule is None or rule.function(slot))
            for slot, name in enumerate(node.input)
        ):
            found.update(set(node.output) - others)
    return found


def _fix(proto: onnx.ModelProto, constants: dict[str, Array]) -> None:
    """Make constants of inputs: what is not differentiated by is one in a model."""
    kept = [each for each in proto.graph.input if each.name not in constants]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in constants.items())


def _runnable(proto: onnx.ModelProto, arrays: dict[str, Array]) -> onnx.ModelProto:
    """The model at its own opset, or at an older one that says the same and that ONNX Runtime has."""
    own = next((each.version for each in proto.opset_import if not each.domain), None)
    if own is None or len(proto.opset_import) > 1:
        raise LeftOutError("not of the default domain")
    for opset in (own, *(each for each in OPSETS if each < own)):
        candidate = with_output_types(of_graph(proto.graph, opset))
        try:
            checker.check_model(candidate, full_check=True)
            found = run(candidate, arrays, [each.name for each in candidate.graph.output])
        except Exception:  # noqa: BLE001  whatever the checker and the runtime raise
            continue
        if not all(np.isfinite(each).all() for each in found if each.dtype.kind == "f"):
            raise LeftOutError("its data lead to infinities or NaNs")
        return candidate
    raise LeftOutError("ONNX Runtime does not run it")


def made_dynamic(case: Case) -> onnx.ModelProto:
    """The model with names for every size of its inputs but that of the channels."""
    proto = onnx.ModelProto()
    proto.CopyFrom(case.proto)
    for tensor in proto.graph.input:
        for axis, dim in enumerate(tensor.type.tensor_type.shape.dim):
            if axis != 1:
                dim.dim_param = f"n{dim.dim_value}"
    return proto
