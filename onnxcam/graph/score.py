"""The score that is explained: the logits of a classifier.

Quantised scores are read as the floats that they were rounded from. These are taken before the last
QuantizeLinear of all, also where that is of the logits: they are finer, and a score at the end of the range
of its integers, where no derivative flows, is that of a model which is sure.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError, unknown
from onnxcam.graph.boundary import reports_node
from onnxcam.graph.chosen import Score
from onnxcam.graph.model import Model
from onnxcam.graph.path import is_float

SQUASHING = {"Softmax", "LogSoftmax", "Sigmoid"}
PASSING = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}
STEPS = {"QuantizeLinear", "DequantizeLinear"}


@reports_node
def find_score(model: Model, output: str | None = None) -> Score:
    """The score of a classifier. `output` names one of the model's outputs, or any tensor; without it
    the first output with one number a class is taken.

    Raises UnknownNameError for a name that is not there; ModelError where no output has one number a class.
    """
    tensors = {each.name: each for each in model.graph.outputs}
    if output is not None:
        tensors = model.graph.tensors()
        if output not in tensors:
            raise unknown("tensor", output, tensors, f"outputs: {_listed(model)}")
        tensors = {output: tensors[output]}
    floats = [before_rounding(each) for each in tensors.values() if classes_of(each)]
    fitting = [each for each in floats if is_float(each)]
    if not fitting:
        raise ModelError(f"{model.name}: {_why_not(model, output, list(tensors.values()))}")
    tensor = fitting[0]
    logits, squashing = _before_squashing(tensor)
    return Score(tensor.name, logits.name, squashing, classes_of(tensor))


def _why_not(model: Model, output: str | None, tensors: list[gs.Tensor]) -> str:
    """Why none of the tensors is the score of a classifier, and what to do."""
    whole = [each for each in tensors if classes_of(each)]
    if whole:
        return (
            f"{whole[0].name!r} is of {np.dtype(whole[0].dtype).name}, and no gradient flows through whole "
            "numbers; name the float scores before it with --output, or take the model before quantisation"
        )
    if output is not None:
        return f"{output!r} {tensors[0].shape} does not have one number a class (N, classes)"
    many = any(each.shape is not None and len(each.shape) > 2 for each in tensors)
    pooled = ", or add the mean or maximum over all pixels or boxes to the model" if many else ""
    return (
        f"no output has one number a class (its outputs: {_listed(model)}); "
        f"name a tensor that does with --output{pooled}"
    )


def _listed(model: Model) -> str:
    return ", ".join(f"{each.name} {each.shape}" for each in model.graph.outputs)


def classes_of(tensor: gs.Tensor) -> int:
    """How many numbers a picture has if they lie along one axis, else 0."""
    if tensor.shape is None or len(tensor.shape) < 2:
        return 0
    wide = [dim for dim in tensor.shape[1:] if dim != 1]
    return wide[0] if len(wide) == 1 and isinstance(wide[0], int) else int(not wide)


def before_rounding(tensor: gs.Tensor) -> gs.Tensor:
    """The floats that quantised numbers were rounded from last; the tensor itself where it was not."""
    current = tensor
    while (node := _maker(current)) is not None and (node.op in STEPS or node.op in PASSING):
        if classes_of(node.inputs[0]) != classes_of(tensor):
            break
        current = node.inputs[0]
        if node.op == "QuantizeLinear":
            tensor = current
    return tensor


def _maker(tensor: gs.Tensor) -> gs.Node | None:
    return tensor.inputs[0] if tensor.inputs else None


def _before_squashing(tensor: gs.Tensor) -> tuple[gs.Tensor, str | None]:
    current = tensor
    while (node := _maker(current)) is not None:
        if node.op in SQUASHING and classes_of(node.inputs[0]) == classes_of(tensor):
            return before_rounding(node.inputs[0]), node.op
        if node.op not in PASSING and node.op not in STEPS:
            break
        current = node.inputs[0]
    return tensor, None
