"""Derivatives of ONNX graphs without any calculus: differences of the float64 reference evaluator."""

from collections.abc import Callable, Collection, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxcam.arrays import Array
from tests.autodiff.support.reference import replacement_operators

Doubles = NDArray[np.float64]
STEP = 1e-6  # float64: rounding costs 1e-10, curvature 1e-12
KINK = 1e-3  # of the slope: more between the right and the left slope is a kink
JUMP = 1e-2  # of the values: more over one step is a jump
NARROW = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}


class KinkError(AssertionError):
    """The data sit where the operator has no derivative."""


def widen_floats(array: Array) -> Array:
    """Floats as float64, anything else as it is."""
    return array.astype(np.float64) if array.dtype.kind in "fV" else array


def float64_evaluator(proto: onnx.ModelProto) -> ReferenceEvaluator:
    """The model with float64 weights and casts."""
    wide = change_types(proto, NARROW, TensorProto.DOUBLE)
    opset = next(opset.version for opset in proto.opset_import if not opset.domain)
    return ReferenceEvaluator(wide, new_ops=replacement_operators(opset))


def change_types(proto: onnx.ModelProto, kinds: Collection[int], kind: int) -> onnx.ModelProto:
    """A copy whose constants and casts of the types `kinds` are of the type `kind`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    attributes = [attribute for node in copy.graph.node for attribute in node.attribute]
    values = (attribute.t for attribute in attributes if attribute.HasField("t"))
    for tensor in (*copy.graph.initializer, *values):
        if tensor.data_type in kinds:
            array = numpy_helper.to_array(tensor)
            dtype = helper.tensor_dtype_to_np_dtype(kind)
            tensor.CopyFrom(numpy_helper.from_array(array.astype(dtype), tensor.name))
    for attribute in attributes:
        if attribute.name == "to" and attribute.i in kinds:
            attribute.i = kind
    return copy


def function(
    evaluator: ReferenceEvaluator, feed: Mapping[str, Array], wrt: str, of: str
) -> Callable[[Doubles], Doubles]:
    """The tensor `of` as a function of the input `wrt` alone."""
    fixed = {name: widen_floats(array) for name, array in feed.items()}

    def evaluate(x: Doubles) -> Doubles:
        with np.errstate(all="ignore"):
            return np.asarray(evaluator.run([of], {**fixed, wrt: x})[0], np.float64)

    return evaluate


def slope(
    f: Callable[[Doubles], Doubles],
    x: Doubles,
    here: Doubles,
    direction: Doubles,
    cotangent: Doubles,
) -> float:
    """<cotangent, J direction> by central differences; KinkError where the two sides disagree.

    `here` is f(x).
    """
    forward = (f(x + STEP * direction) - here) / STEP
    backward = (here - f(x - STEP * direction)) / STEP
    largest = max(
        float(np.max(np.abs(forward), initial=0)), float(np.max(np.abs(backward), initial=0))
    )
    difference = float(np.max(np.abs(forward - backward), initial=0))
    if STEP * largest > JUMP * max(float(np.max(np.abs(here), initial=0)), 1.0):
        raise KinkError("the data sit where the operator jumps; it has no derivative there")
    if not difference <= KINK * max(largest, KINK):  # also where a side is not a number
        raise KinkError("the data sit on a kink; the operator has no derivative there")
    return float(np.sum(cotangent * (forward + backward) / 2))
