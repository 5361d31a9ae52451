"""The score that is explained: the logits of a classifier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError, unknown
from onnxcam.graph.model import Model
from onnxcam.graph.path import is_float

SQUASHING = {"Softmax", "LogSoftmax", "Sigmoid"}
PASSING = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}


@dataclass(frozen=True)
class Score:
    """`output` is the model's, `logits` the tensor before its last Softmax or Sigmoid (`squashing`),
    or the output itself; `classes` how many numbers a picture has, one a class.
    """

    output: str
    logits: str
    squashing: str | None
    classes: int


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
    fitting = [each for each in tensors.values() if classes_of(each) and is_float(each)]
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
        return f"{output!r} does not have one number a class (N, classes)"
    return (
        f"no output has one number a class (its outputs: {_listed(model)}); "
        "name a tensor that does with --output"
    )


def _listed(model: Model) -> str:
    return ", ".join(f"{each.name} {each.shape}" for each in model.graph.outputs)


def classes_of(tensor: gs.Tensor) -> int:
    """How many numbers a picture has if they lie along one axis, else 0."""
    if tensor.shape is None or len(tensor.shape) < 2:
        return 0
    wide = [dim for dim in tensor.shape[1:] if dim != 1]
    return wide[0] if len(wide) == 1 and isinstance(wide[0], int) else int(not wide)


def _before_squashing(tensor: gs.Tensor) -> tuple[gs.Tensor, str | None]:
    current = tensor
    while current.inputs:
        node = current.inputs[0]
        if node.op in SQUASHING and classes_of(node.inputs[0]) == classes_of(tensor):
            return node.inputs[0], node.op
        if node.op not in PASSING:
            break
        current = node.inputs[0]
    return tensor, None
