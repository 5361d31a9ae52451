"""Scores of intermediate blocks: the tail of a model, applied to the output of an earlier block.

The tail is what follows the output of the last block: a normalization, the pooling of tokens, and the head. It
is written once more for every other block, and reads the output of that block instead.

Neither is rounded where the model is quantized: the ranges are those of what the model itself computes there.

A tail that reads few tokens, such as a class token, needs no others of the block either. So what follows the
attention in the block is written once more, too: `drop_unneeded_rows` keeps only these tokens there, and the
backward pass need not go through all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError
from onnxcam.graph.copying import copy_nodes
from onnxcam.graph.reachability import carries_floats, subgraph_between
from onnxcam.graph.tracing import Builder
from onnxcam.methods.place import Place
from onnxcam.model.model import Model
from onnxcam.passes.quantization.straight_through import float_source
from onnxcam.passes.unneeded_rows import loses_rows


def with_tails(model: Model, places: Sequence[Place], score: str) -> tuple[Model, dict[str, str]]:
    """A copy of the model with a score for each place, and its name by the name of the place's tensor. That of
    the last place is the score itself. ModelError if a place has no `output`.
    """
    missing = [place.tensor for place in places if not place.output]
    if missing:
        raise ModelError(f"{model.name}: the output of the block of {missing[0]!r} is not known")
    copy, last = model.copy(), places[-1]
    build = Builder(copy.graph)
    tail = subgraph_between(copy.graph, {last.output}, {score}, carries_floats).nodes
    scores, reads_few = {last.tensor: score}, loses_rows(copy.graph, last.output, score)
    for place in places[:-1]:
        output = build.tensors[place.output]
        if reads_few:
            path = subgraph_between(copy.graph, {place.tensor}, {place.output}, carries_floats)
            block = {place.tensor: build.tensors[place.tensor]}
            _copy_unrounded(build, path.nodes, block)
            output = block[place.output]
        copies = {last.output: output}
        _copy_unrounded(build, tail, copies)
        scores[place.tensor] = copies[score].name
    return copy, scores


def _copy_unrounded(build: Builder, nodes: Iterable[gs.Node], copies: dict[str, gs.Tensor]) -> None:
    """Copy nodes (see `copy_nodes`), without the quantizations among them."""
    for node in nodes:
        source = float_source(node)
        if source is not None and source.name in copies:
            copies[node.outputs[0].name] = copies[source.name]
        else:
            copy_nodes(build, [node], copies)
