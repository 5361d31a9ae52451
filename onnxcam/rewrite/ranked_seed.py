"""Add the class of a rank to the cotangents inside the model, so that one pass explains the best class."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import FLOAT32
from onnxcam.errors import NeedsOpsetError
from onnxcam.graph import anp
from onnxcam.graph.tracing import Builder, Value
from onnxcam.rewrite.loss_scale import accumulation_dtype
from onnxcam.specs import RANK, SEED

FEWEST_SCORES = 2  # a single score ranks two classes by its sign


def add_ranks(graph: gs.Graph, scores: str, classes: int) -> None:
    """Replace the input SEED by the sum of SEED and the class whose score has the rank RANK, for all its
    readers, in place. RANK is (N,) int64: 1 for the highest score, -1 for its negative, 0 to add nothing.

    Nothing is changed where classes have no ranks: a single score, or an opset without TopK-11.
    """
    build, count = Builder(graph), len(graph.nodes)
    seed, values = build.value(SEED), build.value(scores)
    if classes < FEWEST_SCORES or values.ndim < 2:
        return
    readers = list(seed.tensor.outputs)
    rank = build.input(RANK, np.dtype(np.int64), (values.shape[0],))
    try:
        total = seed + build.reshape_like(class_of_rank(values, rank, classes), seed).astype(
            seed.dtype
        )
    except NeedsOpsetError:
        graph.inputs.pop()
        del graph.nodes[count:]
        return
    for node in readers:
        node.inputs = [total.tensor if tensor is seed.tensor else tensor for tensor in node.inputs]
    _move_before_readers(graph, count, readers)


def class_of_rank(scores: Value, rank: Value, classes: int) -> Value:
    """(N, classes) float32: 1 at the class of a rank, -1 for a negative rank."""
    build = scores.build
    rows = build.op("Flatten", scores.astype(accumulation_dtype(scores.dtype)), axis=1)
    most = build.op("ReduceMax", anp.maximum(anp.abs(rank), 1), keepdims=1)
    _, ordered = build.ops("TopK", rows, most, outputs=2, axis=-1)
    column = anp.expand_dims(anp.maximum(anp.abs(rank) - 1, 0), 1)
    index = build.op("GatherElements", ordered, column, axis=1)
    is_class = anp.equal(index, build.constant(np.arange(classes)[None]))
    return is_class.astype(FLOAT32) * anp.expand_dims(anp.sign(rank), 1).astype(FLOAT32)


def _move_before_readers(graph: gs.Graph, count: int, readers: list[gs.Node]) -> None:
    """Put the nodes from `count` on after the scores and before the first reader of the cotangents."""
    new, first = graph.nodes[count:], min(map(graph.nodes.index, readers))
    graph.nodes[:] = [*graph.nodes[:first], *new, *graph.nodes[first:count]]
