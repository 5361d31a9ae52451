"""Sequences: scores of steps, along one side of the image, written by a recurrence, or one for each token that
is an input.
"""

from __future__ import annotations

from onnxcam.graph.reachability import producer
from onnxcam.heads.head import Head
from onnxcam.model.model import Model
from onnxcam.spatial.axes import BATCH, COLUMNS, ROWS, holds_cells, kinds

RECURRENT = {"LSTM", "GRU", "RNN", "Scan", "Loop"}
MAX_DEPTH = 12  # operators between a recurrence and the scores


def sequence_reason(head: Head) -> str | None:
    """Why a head scores steps; None if nothing says so."""
    if len(head.other_axes) != 1 or head.class_axis is None or head.class_columns is not None:
        return None
    axis = head.other_axes[0]
    if head.batch_axis is not None and axis < head.batch_axis:
        return "its steps come before the batch"
    held = kinds(head.axes[axis]) - {BATCH} if head.axes else set()
    if held in ({COLUMNS}, {ROWS}):
        side = "width" if held == {COLUMNS} else "height"
        return f"its positions run along the {side} of the image only"
    return "a recurrence writes it" if _follows_recurrence(head) else None


def decoder_reason(model: Model, head: Head) -> str | None:
    """Why a head scores the next word at each step of a decoder; None if nothing says so. A decoder has as many
    steps as another input of the model has token ids.
    """
    if len(head.other_axes) != 1 or head.class_axis is None or head.axes is None:
        return None
    axis = head.other_axes[0]
    if holds_cells(head.axes[axis]):
        return None
    steps = head.logits.shape[axis]
    tokens = [
        bound.name for bound in model.inputs if "int" in bound.dtype and bound.shape[1:] == (steps,)
    ]
    return f"it has one step for each of the {steps} numbers of {tokens[0]}" if tokens else None


def _follows_recurrence(head: Head) -> bool:
    """Whether a recurrence lies shortly before the scores."""
    tensor = head.logits
    for _ in range(MAX_DEPTH):
        node = producer(tensor)
        if node is None:
            return False
        if node.op in RECURRENT:
            return True
        tensor = next((source for source in node.inputs if source.inputs), tensor)
        if not tensor.inputs:
            return False
    return False
