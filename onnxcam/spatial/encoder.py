"""The end of the encoder of a segmenter or image-to-image net: its last features before it enlarges them again.

    image ─ Conv ─ Conv, stride 2 ─ Conv, stride 2 ─┐            the encoder; ─┐ its end
              └───────┐       └───────┐             │
            Conv ─ Concat ─ Resize ─ Concat ─ Resize┘            the decoder

An encoder may end in parallel branches (atrous or pooled pyramids): then its end is where they begin.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import onnx_graphsurgeon as gs

from onnxcam.graph.operators import traits_of
from onnxcam.graph.reachability import bottlenecks, carries_floats, subgraph_between
from onnxcam.model.model import Model
from onnxcam.specs import Layer

ENLARGING = {"Resize", "Upsample", "DepthToSpace", "MaxUnpool"}
LEAST_SHARE = 1 / 3  # of the weights on the way to the features, those of an encoder


@dataclass
class _Encoder:
    """The tensors that no enlarged tensor is computed from.

    `depth` counts the weights on the longest way from the image to a tensor; `ends` are what is read by the
    decoder, or the features, and by nothing else in the encoder that leads there.
    """

    depth: dict[str, int]
    decoded: set[str] = field(default_factory=set)
    ends: set[str] = field(default_factory=set)


def encoder_end(
    model: Model, image: str, features: Collection[str], layers: Sequence[Layer]
) -> Layer | None:
    """The last of these layers through which everything passes to the deepest ends of the encoder. None if the
    features are not enlarged, or are so from the start.
    """
    encoder = _find_encoder(model.graph, image, features)
    if not encoder.decoded or not encoder.ends:
        return None
    depth = encoder.depth
    deepest = max(depth[name] for name in encoder.ends)
    goals = {name for name in encoder.ends if depth[name] == deepest}
    least = LEAST_SHARE * max(depth[name] for name in features)
    while True:
        path = subgraph_between(model.graph, {image}, goals, carries_floats)
        names = set(bottlenecks(path))
        end = next((layer for layer in reversed(layers) if layer.name in names), None)
        if end is None or depth[end.name] < least:
            return None
        deeper = {name for name in encoder.ends - goals if depth[name] > depth[end.name]}
        if not deeper:
            return end
        goals |= deeper


def _find_encoder(graph: gs.Graph, image: str, features: Collection[str]) -> _Encoder:
    path = subgraph_between(graph, {image}, features, carries_floats)
    encoder = _Encoder({image: 0})
    read_by_decoder = set(features)
    for node in path.nodes:
        inputs = [tensor for tensor in node.inputs if tensor.name in encoder.depth]
        depth = max(encoder.depth[tensor.name] for tensor in inputs)
        is_decoded = any(tensor.name in encoder.decoded for tensor in inputs)
        is_decoded |= depth > 0 and _enlarges(node)
        for tensor in node.outputs:
            encoder.depth[tensor.name] = depth + _has_weights(node)
        if is_decoded:
            encoder.decoded |= {tensor.name for tensor in node.outputs}
            read_by_decoder |= {tensor.name for tensor in inputs}
    leads_on: set[str] = set()
    for node in reversed(path.nodes):
        outputs = {tensor.name for tensor in node.outputs}
        if not outputs & encoder.decoded and outputs & (leads_on | read_by_decoder):
            leads_on |= {tensor.name for tensor in node.inputs}
    encoder.ends = (read_by_decoder & path.tensors) - encoder.decoded - leads_on
    return encoder


def _has_weights(node: gs.Node) -> bool:
    traits = traits_of(node)
    return traits.window in ("conv", "transposed conv") or traits.contracts


def _enlarges(node: gs.Node) -> bool:
    """Whether the output has more cells than the input; of unknown sizes, whether the operator is for that."""
    is_transposed = traits_of(node).window == "transposed conv"
    if not is_transposed and node.op not in ENLARGING:
        return False
    first = 2 if is_transposed else 1  # a Resize keeps the channels
    shapes = [tensor.shape and tensor.shape[first:] for tensor in (node.inputs[0], node.outputs[0])]
    if node.op == "DepthToSpace" or not all(shapes):
        return True
    sizes = [[dim for dim in shape if isinstance(dim, int)] for shape in shapes]
    is_known = len(sizes[0]) == len(shapes[0]) and len(sizes[1]) == len(shapes[1])
    return not is_known or math.prod(sizes[1]) > math.prod(sizes[0])
