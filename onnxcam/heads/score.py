"""The score that is explained: the logits of a classifier.

Quantized scores are read as the floats that they were rounded from, before the last QuantizeLinear; this holds
for quantized logits, too. The floats are finer, and a score at the end of the range of its integers, where no
derivative flows, belongs to a model that is confident.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError, unknown
from onnxcam.graph.node_errors import reports_node
from onnxcam.graph.reachability import is_float
from onnxcam.heads.computed_outputs import is_computed, why_not_computed
from onnxcam.heads.detection_columns import BOX, holds_class_index
from onnxcam.heads.exact_activation import is_exact_activation
from onnxcam.heads.head import Head
from onnxcam.heads.head_reader import HeadReader
from onnxcam.heads.objectness import join_objectness
from onnxcam.heads.output_choice import choose_output
from onnxcam.heads.output_tensors import score_tensors
from onnxcam.model.model import Model
from onnxcam.specs import Score

DETECTION_TASKS = {"detect", "segment", "pose", "obb"}  # of Ultralytics models


@reports_node
def find_score(model: Model, output: str | None = None) -> Score:
    """The score of a classifier. `output` names one of the model's outputs, or any tensor; without it, the
    output that most likely has one score per class is chosen (see `output_choice`).

    Raises UnknownNameError for an unknown name; ModelError if no output has one score per class.
    """
    heads = [head for head in find_heads(model, output) if head.has_class_scores]
    if not heads:
        raise no_score_error(model, output)
    return to_score(choose_output(heads).head)


def to_score(head: Head) -> Score:
    """The score of a head with one score per class."""
    return Score(
        output=head.probabilities.name,
        logits=head.logits.name,
        output_activation=head.output_activation,
        classes=head.class_count,
        probability=bool(head.inner_logits),
        exact_activation=is_exact_activation(head),
    )


def find_heads(
    model: Model,
    output: str | None = None,
    labels: int | None = None,
    class_axis: int | None = None,
) -> list[Head]:
    """What can be read as scores among the outputs, or in the tensor `output`, with the classes along an axis
    that is found unless it is named. UnknownNameError if there is no such tensor.
    """
    reader = HeadReader(model, labels, class_axis)
    requested = _requested_tensors(model, output)
    outputs = [tensor for tensor in requested if is_computed(model, tensor)]
    heads = [reader.read(tensor) for named in outputs for tensor in score_tensors(named)]
    return join_objectness([head for head in heads if head is not None])


def no_score_error(model: Model, output: str | None = None) -> ModelError:
    """The error for a model without the score of a classifier: why, and what to do."""
    reason = _why_no_score(model, output, _requested_tensors(model, output))
    return ModelError(f"{model.name}: {reason}")


def _requested_tensors(model: Model, output: str | None) -> list[gs.Tensor]:
    """The tensor with this name, or all outputs without one."""
    if output is None:
        return list(model.graph.outputs)
    tensors = model.graph.tensors()
    if output not in tensors:
        raise unknown("tensor", output, tensors, f"outputs: {_list_outputs(model)}")
    return [tensors[output]]


def _why_no_score(model: Model, output: str | None, tensors: list[gs.Tensor]) -> str:
    integers = [tensor for tensor in tensors if class_count_of(tensor) and not is_float(tensor)]
    if integers and not isinstance(integers[0].dtype, int):
        return (
            f"{integers[0].name!r} has the dtype {np.dtype(integers[0].dtype).name}, and no gradient flows "
            "through integers; name the float scores before it with --output, or use the model before "
            "quantization"
        )
    reasons = [why_not_computed(model, tensor) for tensor in tensors]
    if output is not None and reasons[0] is not None:
        return f"{output!r} {reasons[0]}, so there is nothing to explain; name another tensor with --output"
    if all(reasons):
        listed = "; ".join(
            f"{tensor.name!r} {why}" for tensor, why in zip(tensors, reasons, strict=True)
        )
        return (
            f"no output is computed from the image ({listed}); name a tensor that is with --output"
        )
    if output is not None:
        return f"{output!r} {tensors[0].shape} does not have one score per class (N, classes)"
    is_dense = any(tensor.shape is not None and len(tensor.shape) > 2 for tensor in tensors)
    hint = ", or add the mean or maximum over all pixels or boxes to the model" if is_dense else ""
    return (
        f"no output has one score per class (its outputs: {_list_outputs(model)}); "
        f"use --output to name a tensor that does{hint}"
    )


def _list_outputs(model: Model) -> str:
    return ", ".join(f"{tensor.name} {tensor.shape}" for tensor in model.graph.outputs)


def class_count_of(tensor: gs.Tensor) -> int:
    """How many numbers an image has if they lie along one axis; otherwise 0."""
    if tensor.shape is None or len(tensor.shape) < 2:
        return 0
    long_dims = [dim for dim in tensor.shape[1:] if dim != 1]
    return (
        long_dims[0]
        if len(long_dims) == 1 and isinstance(long_dims[0], int)
        else int(not long_dims)
    )


def check_detections(model: Model, head: Head, labels: int | None) -> None:
    """ModelError for detections that hold a class index, and for those whose size does not fit the number of
    labels that the model names.
    """
    if head.class_axis is None or not head.other_axes:
        return
    size = head.logits.shape[head.class_axis]
    name = f"{head.output.name!r} {head.output.shape}"
    metadata = model.metadata if head.output in model.graph.outputs else {}
    if holds_class_index(head.logits, head.class_axis, metadata):
        raise ModelError(
            f"{model.name}: {name} holds final detections: one of their numbers is the class index, and no "
            "gradient flows through it; name the scores before them with --output, or export the model "
            "without its final selection (NMS)"
        )
    detects = model.metadata.get("task", "").strip().lower() in DETECTION_TASKS
    if labels is None or not detects or head.class_columns:
        return
    if size not in (labels, labels + 1):
        raise ModelError(
            f"{model.name}: {name} has {size} numbers per box, but the model names {labels} classes; "
            f"expected {labels + BOX} (the box first); use --output to name the tensor that holds the scores"
        )
