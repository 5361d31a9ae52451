"""The class that stands for nothing: the background, no object, or the blank between characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import Floats
from onnxcam.dense import DETECTION, SEGMENTATION, SEQUENCE
from onnxcam.graph.operators import only_reshapes, traits_of
from onnxcam.graph.reachability import producer
from onnxcam.heads.head import Head
from onnxcam.heads.monotone import MAX_DEPTH
from onnxcam.image.label_fit import named_nothing
from onnxcam.spatial.axes import holds_cells

WITH_BACKGROUND = (2, 21)  # classes of segmenters: an object or not, and those of Pascal VOC
MARGIN = 2.0  # by which the bias of "no object" exceeds the others
WEIGHTS = {"Gemm", "Conv"}


@dataclass(frozen=True)
class NoClass:
    """A class that stands for nothing.

    Attributes:
        index: which one; the first or the last.
        name: what it is called, if it has no label.
        reason: what says so, as half a sentence.
        is_assumed: whether no label says so.
    """

    index: int
    name: str
    reason: str
    is_assumed: bool = True

    def notice(self, output: str) -> str:
        """What was assumed, and how to change it."""
        return (
            f"class {self.index} of {output} is taken as the {self.name}, because {self.reason}; "
            f"labels with the {self.name} at another place (--labels) change that"
        )


def class_of_nothing(head: Head, task: str, names: Sequence[str] | None) -> NoClass | None:
    """The class of a head that stands for nothing, None if all mean something; `names` are the labels in the
    model's metadata.
    """
    if head.class_count < 2 or task not in (DETECTION, SEGMENTATION, SEQUENCE):
        return None
    is_text = task == SEQUENCE
    is_complete = names is not None and len(names) == head.class_count
    index = named_nothing(names, is_text=is_text) if names and is_complete else None
    if index is not None:
        name = "blank" if is_text else "background"
        return NoClass(index, name, "its label says so", is_assumed=False)
    if is_text:
        return _blank(head)
    if is_complete:
        return None
    is_missing = names is not None and len(names) == head.class_count - 1
    return (_no_object if task == DETECTION else _background)(head, is_missing=is_missing)


def _no_object(head: Head, *, is_missing: bool) -> NoClass | None:
    """Queries have "no object" last, anchors a background first, if a Softmax or the labels say that one class
    stands for nothing.
    """
    last = head.class_count - 1
    is_query = _has_queries(head)
    has_softmax = head.output_activation in ("Softmax", "LogSoftmax")
    if is_query:
        bias = final_bias(head)
        stands_out = bias is not None and bias[..., -1].min() > bias[..., :-1].max() + MARGIN
        if is_missing or has_softmax or (head.output_activation is None and stands_out):
            return NoClass(last, "no object", "queries have it as the last class")
        return None
    if is_missing or has_softmax:
        return NoClass(0, "background", "boxes on a grid have it as the first class")
    return None


def _background(head: Head, *, is_missing: bool) -> NoClass | None:
    if is_missing:
        return NoClass(0, "background", "there is one label less than classes")
    if head.class_count in WITH_BACKGROUND:
        return NoClass(0, "background", f"it is the first of {head.class_count} classes")
    return None


def _blank(head: Head) -> NoClass | None:
    """The blank of CTC: the first class, or the last one if its bias is larger than that of the first by more
    than the biases of the characters differ.
    """
    if _has_queries(head):
        return None
    bias = final_bias(head)
    if bias is not None and _stands_out(bias):
        return NoClass(head.class_count - 1, "blank", "its bias is larger than that of class 0")
    return NoClass(0, "blank", "it is the first class")


def _stands_out(bias: Floats) -> bool:
    """Whether the last class has a larger bias than the first one, by more than those between them differ."""
    characters = bias[..., 1:-1]
    difference = float((bias[..., -1] - bias[..., 0]).mean())
    return difference > (float(characters.std()) if characters.size else 0.0)


def _has_queries(head: Head) -> bool:
    """Whether the positions are not those of the image, as queries of a transformer."""
    if head.axes is None or len(head.other_axes) != 1:
        return False
    return not holds_cells(head.axes[head.other_axes[0]])


def final_bias(head: Head) -> Floats | None:
    """(…, classes): the constants that the last weights add to the logits; None if there are none."""
    tensor = head.logits
    for _ in range(MAX_DEPTH):
        node = producer(tensor)
        if node is None:
            return None
        if (bias := _bias_of(node, head.class_count)) is not None:
            return bias
        traits = traits_of(node)
        moves = only_reshapes(traits) or traits.moves in ("transpose", "join") or traits.quantizes
        if not moves and node.op not in ("Add", "MatMul"):
            return None
        tensor = next((source for source in node.inputs if source.inputs), tensor)
    return None


def _bias_of(node: gs.Node, classes: int) -> Floats | None:
    constants = [tensor for tensor in node.inputs if isinstance(tensor, gs.Constant)]
    if node.op in WEIGHTS and len(node.inputs) > 2:
        constants = [tensor for tensor in node.inputs[2:] if isinstance(tensor, gs.Constant)]
    elif node.op != "Add":
        return None
    sizes = [constant for constant in constants if constant.values.size % classes == 0]
    if not sizes:
        return None
    return np.asarray(sizes[0].values, np.float64).reshape(-1, classes)
