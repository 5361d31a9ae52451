"""The automatic layers of a model: those that hold the evidence for the scores of its task.

- classes of the image: the last features (`choose_layers`)
- boxes: what the last weights before the class scores read, at every grid
- pixels: the end of the encoder
- steps: the last features with rows and columns

The energy table in `heads/README.md` compares them with others.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from onnxcam.dense import DETECTION, IMAGE, SEGMENTATION, SEQUENCE, HeadChoice
from onnxcam.errors import ModelError
from onnxcam.graph.operators import traits_of
from onnxcam.graph.reachability import producer
from onnxcam.heads.dense_score import explained_heads
from onnxcam.heads.description import choose_task
from onnxcam.heads.positions import PLACED
from onnxcam.heads.score_features import score_features
from onnxcam.model.model import Model
from onnxcam.spatial.encoder import encoder_end
from onnxcam.spatial.layers import (
    candidates,
    choose_layers,
    completed,
    spatial_layers,
)
from onnxcam.specs import Layer

MAX_FEATURES = 12  # layers that are combined into one map: two of each of six grids


def automatic_layers(
    model: Model, image: str, score: str, layers: list[Layer], task: str
) -> list[Layer]:
    """The automatic choice among the layers of a score (N, classes) of a task. Several if no layer holds all
    evidence, empty if there is none.
    """
    if task not in PLACED:
        return choose_layers(model, image, score, layers)
    if task == SEQUENCE:
        return _with_rows_and_columns(model, choose_layers(model, image, score, layers), layers)
    features = score_features(model.graph, score)
    if task in (SEGMENTATION, IMAGE):
        names = [tensor.name for tensor in features]
        end = encoder_end(model, image, names, completed(model, layers)) if names else None
        if end is not None:
            return [end]
    chosen = _at_features(model, image, features, layers)
    return chosen or choose_layers(model, image, score, layers)


def task_at_positions(model: Model, output: str | None, head: HeadChoice) -> str:
    """The task of a model whose scores a method does not explain; "" if it has no scores, or if it is taken
    for a detector by its shapes alone: the output may be the features themselves.
    """
    try:
        scored, heads = explained_heads(model, head.scores or output, lambda _: "", head.class_axis)
        task = choose_task(scored, heads, head)
    except ModelError:
        return ""
    return "" if task.is_assumed and task.name == DETECTION else task.name


def _with_rows_and_columns(model: Model, chosen: list[Layer], layers: list[Layer]) -> list[Layer]:
    """The last layer before the rows were joined to one, if that is chosen."""
    if len(chosen) != 1 or 1 not in chosen[0].grid:
        return chosen
    return next(([layer] for layer in candidates(model, layers) if 1 not in layer.grid), chosen)


def _at_features(
    model: Model, image: str, features: Sequence[gs.Tensor], layers: list[Layer]
) -> list[Layer]:
    """The layers that hold these features or, if they have no grid (queries of a decoder), from which they are
    computed. Empty if a tensor has neither, or if there are too many.
    """
    names: set[str] = set()
    by_name = {layer.name: layer for layer in layers if not layer.ignored_by_score}
    for tensor in map(_before_padding, features):
        if tensor.name in by_name:
            names.add(tensor.name)
            continue
        before = spatial_layers(model, image, tensor.name)
        sources = choose_layers(model, image, tensor.name, before)
        if not sources:
            return []
        names |= {layer.name for layer in sources}
    return [layer for layer in layers if layer.name in names] if len(names) <= MAX_FEATURES else []


def _before_padding(tensor: gs.Tensor) -> gs.Tensor:
    """The cells of the image alone."""
    node = producer(tensor)
    return node.inputs[0] if node is not None and traits_of(node).moves == "pad" else tensor
