"""Models that score every pixel or every box: one score a class is added to them.

Of a segmenter's (N, classes, H, W) it is the mean over the pixels, so that every pixel of the class counts; of
a detector's (N, boxes, numbers) the maximum over the boxes of all its heads, so that the surest box counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError, UnknownNameError
from onnxcam.graph.boundary import reports_node
from onnxcam.graph.build import Builder
from onnxcam.graph.chosen import Score
from onnxcam.graph.model import Model
from onnxcam.graph.path import is_float
from onnxcam.graph.score import SQUASHING, find_score
from onnxcam.graph.value import Value, np

POOLED = "onnxcam/classes"
BOX = 4  # numbers of a box: an output of so many is none of classes if there is another


@reports_node
def with_score(model: Model, output: str | None = None) -> tuple[Model, Score]:
    """The model and its score, see `find_score`; where all outputs (or the one named) are of pixels or boxes,
    with the output `onnxcam/classes` of one number a class, and a notice that says what it is.

    Raises what `find_score` raises where there is no score for each pixel or box either.
    """
    try:
        return model, find_score(model, output)
    except UnknownNameError:
        raise
    except ModelError:
        tensors = model.graph.tensors()
        given = model.graph.outputs if output is None else [tensors[output]]
        chosen = _heads([each for each in given if _is_dense(each)])
        if not chosen:
            raise
    pooled = _pooled(model, chosen)
    return pooled, find_score(pooled, POOLED)


def _is_dense(tensor: gs.Tensor) -> bool:
    """Whether it is of numbers for each pixel or box, of a known count of classes."""
    shape = tensor.shape
    return (
        is_float(tensor)
        and shape is not None
        and len(shape) in (3, 4)
        and isinstance(shape[class_axis(shape)], int)
    )


def class_axis(shape: Sequence[int | str | None]) -> int:
    """Classes are fewer than pixels or boxes: the shortest axis behind the batch; a free one is long."""
    sizes = [each if isinstance(each, int) else np.inf for each in shape[1:]]
    return 1 + sizes.index(min(sizes))


def _heads(dense: list[gs.Tensor]) -> list[gs.Tensor]:
    """The first output that is of classes, with the other heads that are like it."""
    kinds = [(len(each.shape), each.shape[class_axis(each.shape)]) for each in dense]
    chosen = next((kind for kind in kinds if kind[1] != BOX), kinds[0] if kinds else None)
    return [each for each, kind in zip(dense, kinds, strict=True) if kind == chosen]


def _pooled(model: Model, heads: list[gs.Tensor]) -> Model:
    copied = model.copy()
    build = Builder(copied.graph)
    rows = [_row(build, build.value(each.name)) for each in heads]
    classes = rows[0] if len(rows) == 1 else build.op("Max", *rows)
    build.output(classes, POOLED)
    return replace(copied, notices=(*model.notices, _notice(heads)))


def _row(build: Builder, scores: Value) -> Value:
    """(N, classes) of one head, of its logits where it ends in Softmax or Sigmoid."""
    maker = scores.tensor.inputs[0] if scores.tensor.inputs else None
    if maker is not None and maker.op in SQUASHING:
        scores = build.value(maker.inputs[0].name)
    axis = class_axis(scores.shape)
    others = tuple(each for each in range(1, scores.ndim) if each != axis)
    pool = np.mean if scores.ndim == len("NCHW") else np.max
    found: Value = pool(scores, axis=others, keepdims=False)
    return found


def _notice(heads: list[gs.Tensor]) -> str:
    names = ", ".join(each.name for each in heads)
    shape = heads[0].shape
    if len(shape) == len("NCHW"):
        return f"{names} scores each pixel: what is explained is a class's mean over the picture"
    return (
        f"{names} has {shape[class_axis(shape)]} numbers for each box: what is explained is the maximum over "
        "the boxes of the one that --target counts to"
    )
