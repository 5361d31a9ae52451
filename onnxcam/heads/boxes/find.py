"""Which tensors hold the boxes of a detector, and in which form."""

from __future__ import annotations

from collections.abc import Sequence

from onnxcam.dense import Boxes
from onnxcam.heads.boxes.candidates import box_candidates
from onnxcam.heads.boxes.forms import FORMS
from onnxcam.heads.head import Head
from onnxcam.model.model import Model


def find_boxes(
    model: Model, heads: Sequence[Head], name: str | None = None, head: str | None = None
) -> Boxes | None:
    """Where the boxes of a detector are, and how they are decoded; None if their form is unknown. `heads` are
    those that are explained together, in the order of their positions. `name` names the tensor that holds the
    boxes, and `head` their form.

    Raises UnknownNameError for a name that does not exist.
    """
    form = None if head is None else FORMS[head]
    for columns in box_candidates(model, heads, name):
        if form is not None:
            return form.find(columns) or Boxes(form.name, columns.columns)
        matches = (candidate.find(columns) for candidate in dict.fromkeys(FORMS.values()))
        boxes = next(filter(None, matches), None)
        if boxes is not None:
            return boxes
    return None
