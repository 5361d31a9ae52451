"""Labels of models with scores at positions: one class may stand for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnxcam.dense import SEQUENCE, Dense
from onnxcam.image.label_fit import NoClass, named_nothing


def class_without_label(dense: Dense | None) -> NoClass | None:
    """The class that labels may leave out, and what it is called then; None if there is none."""
    if dense is None:
        return None
    if dense.task == SEQUENCE:
        return None if dense.blank is None else (dense.blank, "blank")
    if dense.background is None:
        return None
    return dense.background, "no object" if dense.background else "background"


def with_labels(dense: Dense, labels: Sequence[str] | None) -> Dense:
    """The same scores with the class that stands for nothing where the labels have it. Labels that name all
    classes and none of them so have no background; text always has a blank.
    """
    if labels is None or len(labels) != dense.classes:
        return dense
    is_text = dense.task == SEQUENCE
    index = named_nothing(labels, is_text=is_text)
    if is_text:
        return dense if index is None else replace(dense, blank=index)
    return replace(dense, background=index)
