"""The score that is explained: the logits of a classifier.

Quantised scores are read as the floats that they were rounded from. These are taken before the last
QuantizeLinear of all, also where that is of the logits: they are finer, and a score at the end of the range
of its integers, where no derivative flows, is that of a model which is sure.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError, unknown
from onnxcam.graph.node_errors import reports_node
from onnxcam.graph.reachability import is_float
from onnxcam.heads.detection_columns import BOX, holds_class_index
from onnxcam.heads.heads import Head, Reader, unwrapped
from onnxcam.heads.output_choice import choose
from onnxcam.model.model import Model
from onnxcam.specs import Score

DETECTING = {
    "detect",
    "segment",
    "pose",
    "obb",
}  # tasks of Ultralytics models, besides classification


@reports_node
def find_score(model: Model, output: str | None = None) -> Score:
    """The score of a classifier. `output` names one of the model's outputs, or any tensor; without it
    the output that most likely has one score per class is taken (see `choice`).

    Raises UnknownNameError for an unknown name; ModelError if no output has one score per class.
    """
    plain = [head for head in find_heads(model, output) if head.is_plain]
    if not plain:
        raise refusal(model, output)
    return as_score(choose(plain).head)


def as_score(head: Head) -> Score:
    """The score of a head with one score per class."""
    names = head.probabilities.name, head.logits.name
    return Score(*names, head.squashing, head.count, probability=bool(head.inner))


def find_heads(model: Model, output: str | None = None, labels: int | None = None) -> list[Head]:
    """What can be read as scores among the outputs, or in the tensor `output`. UnknownNameError if there is no
    such tensor.
    """
    reader = Reader(model, labels)
    heads = [reader.read(tensor) for named in _named(model, output) for tensor in unwrapped(named)]
    return [head for head in heads if head is not None]


def refusal(model: Model, output: str | None = None) -> ModelError:
    """Why none of the tensors is the score of a classifier, and what to do."""
    return ModelError(f"{model.name}: {_why_not(model, output, _named(model, output))}")


def _named(model: Model, output: str | None) -> list[gs.Tensor]:
    if output is None:
        return list(model.graph.outputs)
    tensors = model.graph.tensors()
    if output not in tensors:
        raise unknown("tensor", output, tensors, f"outputs: {_listed(model)}")
    return [tensors[output]]


def _why_not(model: Model, output: str | None, tensors: list[gs.Tensor]) -> str:
    integers = [tensor for tensor in tensors if classes_of(tensor) and not is_float(tensor)]
    if integers and not isinstance(integers[0].dtype, int):
        return (
            f"{integers[0].name!r} is of {np.dtype(integers[0].dtype).name}, and no gradient flows through "
            "whole numbers; name the float scores before it with --output, or take the model before "
            "quantisation"
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


def check_detections(model: Model, head: Head, labels: int | None) -> None:
    """ModelError for detections that hold a class index, and for those whose size does not fit the number of
    labels that the model names.
    """
    if head.classes is None or not head.others:
        return
    size, name = head.logits.shape[head.classes], f"{head.output.name!r} {head.output.shape}"
    if holds_class_index(head.logits, head.classes, model.metadata):
        raise ModelError(
            f"{model.name}: {name} holds final detections: one of their numbers is the class index, and no "
            "gradient flows through it; name the scores before them with --output, or export the model "
            "without its final selection (NMS)"
        )
    detects = model.metadata.get("task", "").strip().lower() in DETECTING
    if labels is not None and detects and not head.columns and size not in (labels, labels + 1):
        raise ModelError(
            f"{model.name}: {name} has {size} numbers per box, but the model names {labels} classes; "
            f"expected {labels + BOX} (the box first): name the tensor with the scores with --output"
        )
