"""The layers of a model for which a map can be drawn, and the automatic choice among them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_graphsurgeon as gs

from onnxcam.graph.operators import traits_of
from onnxcam.graph.reachability import (
    Subgraph,
    bottlenecks,
    carries_floats,
    is_float,
    producer,
    subgraph_between,
)
from onnxcam.model.channel_axis import channel_axes, image_layout
from onnxcam.model.model import Model
from onnxcam.spatial.axes import Axes, GridLocation, locate_grid
from onnxcam.spatial.axis_flow import AxisFlow
from onnxcam.spatial.token_mixing import prune_ignored, tensors_ignored_by_score
from onnxcam.specs import CLASS_SCORES, Layer

MAX_BRANCHES = 8  # layers that are combined into one map


def spatial_layers(model: Model, image: str, score: str) -> list[Layer]:
    """The layers between the image and the score, in the graph's order: every tensor (N, C, h, w) or (N, h, w,
    C) with a grid of more than one cell, and tokens (N, T, C) or (N, C, T). They are numbered from 1.
    """
    path, flow, ignored = path_to_score(model, image, score)
    bottleneck_names = (
        set(bottlenecks(prune_ignored(path, flow, ignored) if ignored else path)) - ignored
    )
    channels = channel_axes(model.graph)
    located = [
        (node.op, tensor, location)
        for node in path.nodes
        for tensor in node.outputs
        if tensor.name in path.tensors and not tensor.name.startswith(f"{CLASS_SCORES}/")
        if (location := _locate(tensor, flow.axes_of(tensor), channels.get(tensor.name, 0)))
        is not None
    ]
    return [
        Layer(
            tensor.name,
            op,
            tuple(tensor.shape),
            location.channel_axis,
            tensor.name in bottleneck_names,
            cells=location.cells,
            tokens_before=location.before,
            tokens_after=location.after,
            ignored_by_score=tensor.name in ignored,
            number=number,
        )
        for number, (op, tensor, location) in enumerate(located, 1)
    ]


def path_to_score(model: Model, image: str, score: str) -> tuple[Subgraph, AxisFlow, set[str]]:
    """What lies between the image and the score, what its axes hold, and the tensors that the score ignores."""
    integers = _integers_from(model.graph, image)

    def carries(node: gs.Node, slot: int) -> bool:
        return carries_floats(node, slot) or node.inputs[slot].name in integers

    path = subgraph_between(model.graph, {image, *integers}, {score}, carries)
    flow = AxisFlow(model.graph, image, image_layout(model.graph, image))
    return path, flow, tensors_ignored_by_score(path, flow, score)


def _locate(tensor: gs.Tensor, axes: Axes | None, channel_axis: int) -> GridLocation | None:
    """Where a tensor holds its cells. If its axes are not known, a tensor of four axes is a grid if the
    operators around it imply its channel axis.
    """
    if axes is not None:
        return locate_grid(axes, tuple(tensor.shape))
    if tensor.shape is None or len(tensor.shape) != 4 or not channel_axis:
        return None
    sizes = [dim for axis, dim in enumerate(tensor.shape) if axis not in (0, channel_axis)]
    return GridLocation(channel_axis) if any(dim != 1 for dim in sizes) else None


def _integers_from(graph: gs.Graph, image: str) -> set[str]:
    """An image of integers, and the integers that are computed from it. No derivative flows through them, but
    the tensors after them are layers.
    """
    names = {
        tensor.name for tensor in graph.inputs if tensor.name == image and not is_float(tensor)
    }
    for node in graph.nodes:
        if names & {tensor.name for tensor in node.inputs} and not traits_of(node).reads_shape:
            names |= {tensor.name for tensor in node.outputs if not is_float(tensor)}
    return names


def candidates(model: Model, layers: list[Layer]) -> list[Layer]:
    """The layers for the automatic choice, the last one first: those through which everything passes, each
    after its activation.

    If a class token is read alone, the first candidate is the normalized input of the last attention. After it,
    the score ignores the other tokens. Before the normalization, residual connections have let a few channels
    grow a thousand times as large as the others.
    """
    tensors = model.graph.tensors()
    complete = [
        layer
        for layer in reversed(layers)
        if layer.is_bottleneck and not _is_preactivation(tensors[layer.name])
    ]
    features = [layer for layer in complete if not _is_linear_projection(tensors[layer.name])]
    return features or complete


def completed(model: Model, layers: Sequence[Layer]) -> list[Layer]:
    """The layers that the score reads, each after its activation, without linear projections of tokens."""
    tensors = model.graph.tensors()
    return [
        layer
        for layer in layers
        if not layer.ignored_by_score
        and not _is_preactivation(tensors[layer.name])
        and not _is_linear_projection(tensors[layer.name])
    ]


def choose_layers(model: Model, image: str, score: str, layers: list[Layer]) -> list[Layer]:
    """The automatic choice: the last candidate. If there is none, or if the features continue to coarser grids
    after it, as to the heads of a detector: the last layer of each branch. Empty if neither exists.
    """
    last = next(iter(candidates(model, layers)), None)
    if last is None:
        return branch_ends(model, image, score, layers)
    after = [layer for layer in layers[layers.index(last) + 1 :] if not layer.ignored_by_score]
    if not any(_is_coarser(layer, last) for layer in after):
        return [last]
    ends = branch_ends(model, image, score, layers)
    # two layers with one grid are features and their weights, not heads
    are_heads = len({layer.grid for layer in ends}) == len(ends)
    has_coarser_end = any(_is_coarser(layer, last) for layer in ends)
    return ends if are_heads and has_coarser_end else [last]


def _is_coarser(layer: Layer, reference: Layer) -> bool:
    """Whether a grid has fewer cells; if sizes are names, whether it is a different one."""
    grids = [[dim for dim in grid if isinstance(dim, int)] for grid in (layer.grid, reference.grid)]
    if min(map(len, grids)) < 2:
        return layer.grid != reference.grid
    return math.prod(grids[0]) < math.prod(grids[1])


def branch_ends(model: Model, image: str, score: str, layers: list[Layer]) -> list[Layer]:
    """The last layer on every path from the image to the score, so that everything passes through one of them.
    Empty if a path has no layer, or if there are more than MAX_BRANCHES.
    """
    usable = {layer.name for layer in completed(model, layers)}
    path, flow, ignored = path_to_score(model, image, score)
    open_paths, ends = {score}, set[str]()
    for node in reversed(prune_ignored(path, flow, ignored).nodes):
        if open_paths & {tensor.name for tensor in node.outputs}:
            inputs = {tensor.name for tensor in node.inputs} & path.tensors
            ends |= inputs & usable
            open_paths |= inputs - usable
    if image in open_paths or len(ends) > MAX_BRANCHES:
        return []
    return [layer for layer in layers if layer.name in ends]


def _is_linear_projection(tensor: gs.Tensor) -> bool:
    """Whether tokens were only multiplied by weights: queries, keys and values, separate or in one tensor, or
    the scores of each token. Their input holds the same, in more meaningful features.
    """
    node = producer(tensor)
    if node is None:
        return False
    if traits_of(node).moves in ("view", "transpose", "slice"):
        return _is_linear_projection(node.inputs[0])
    variables = [operand for operand in node.inputs if not isinstance(operand, gs.Constant)]
    if node.op in ("MatMul", "Gemm"):
        return len(variables) == 1
    applies_constant = node.op in ("Add", "Mul") and len(variables) == 1
    return applies_constant and _is_linear_projection(variables[0])


def _is_preactivation(tensor: gs.Tensor) -> bool:
    """Whether a tensor is only the input of the activation that completes its layer."""
    # a DequantizeLinear after the QuantizeLinear reads the tensor for the straight-through gradient, too
    readers = [node for node in tensor.outputs if node.op != "QuantizeLinear"]
    if {node.op for node in readers} in ({"Sigmoid", "Mul"}, {"HardSigmoid", "Mul"}):
        return True  # SiLU and HardSwish, as exporters write them
    return len(readers) == 1 and _continues_layer(readers[0])


def _continues_layer(node: gs.Node) -> bool:
    """Whether the output belongs to the same layer as the input: Conv -> BatchNormalization -> Relu."""
    traits = traits_of(node)
    return traits.elementwise in ("unary", "channelwise") or traits.moves in ("pad", "transpose")
