"""What a user should know about operators whose gradient is not their derivative."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx_graphsurgeon as gs

from onnxcam.autodiff.rules.sign import binarizes
from onnxcam.graph.node_errors import name_of
from onnxcam.graph.reachability import carries_floats, subgraph_between

GRADIENTS = ("gradient", "image_gradient", "tail_gradient", "vjp")  # the sources that differentiate


def straight_through_notices(
    graph: gs.Graph, sources: Collection[str], score: str
) -> Iterator[tuple[str, str]]:
    """A notice about the Sign nodes between some tensors and the score, as pairs of a source and the notice."""
    path = subgraph_between(graph, sources, {score}, carries_floats)
    nodes = [node for node in path.nodes if binarizes(node)]
    if nodes:
        rest = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        notice = (
            f"the derivative of Sign ({name_of(nodes[0])}{rest}) is 0 everywhere; gradients pass straight "
            "through it where |x| <= 1, as in the training of binarized networks; a method that needs no "
            "gradient (`onnxcam methods`) does without this assumption"
        )
        yield from ((source, notice) for source in GRADIENTS)
