"""The layers of a model that a map can be drawn of, and the automatic choice among them."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase

import onnx_graphsurgeon as gs

from onnxcam.errors import UnknownNameError, unknown
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

LISTED = 12  # so many of the layers that fit a pattern are told
BRANCHES = 8  # so many layers are taken together at most


def spatial_layers(model: Model, image: str, score: str) -> list[Layer]:
    """Every tensor with a grid of more than one cell on the way from the image to the score, in the
    graph's order: (N, C, h, w), (N, h, w, C), and tokens (N, T, C) or (N, C, T).
    """
    path, flow, dead = _ways(model, image, score)
    whole = set(bottlenecks(prune_ignored(path, flow, dead) if dead else path)) - dead
    axes = channel_axes(model.graph)
    found = [
        (node.op, tensor, _placed(tensor, flow.axes_of(tensor), axes.get(tensor.name, 0)))
        for node in path.nodes
        for tensor in node.outputs
        if tensor.name in path.tensors and not tensor.name.startswith(f"{CLASS_SCORES}/")
    ]
    return [
        Layer(
            tensor.name,
            op,
            tuple(tensor.shape),
            place.channel_axis,
            tensor.name in whole,
            cells=place.cells,
            tokens_before=place.before,
            tokens_after=place.after,
            ignored_by_score=tensor.name in dead,
        )
        for op, tensor, place in found
        if place is not None
    ]


def _ways(model: Model, image: str, score: str) -> tuple[Subgraph, AxisFlow, set[str]]:
    """What lies between the picture and the score, what its axes hold, and whose cells are not read."""
    integers = _integers(model.graph, image)

    def carries(node: gs.Node, slot: int) -> bool:
        return carries_floats(node, slot) or node.inputs[slot].name in integers

    path = subgraph_between(model.graph, {image, *integers}, {score}, carries)
    flow = AxisFlow(model.graph, image, image_layout(model.graph, image))
    return path, flow, tensors_ignored_by_score(path, flow, score)


def _placed(tensor: gs.Tensor, axes: Axes | None, channel_axis: int) -> GridLocation | None:
    """Where the cells are; of four axes that nothing is known of, by the operators around them."""
    if axes is not None:
        return locate_grid(axes, tuple(tensor.shape))
    known = _is_spatial(tensor, channel_axis)
    return GridLocation(channel_axis) if known else None


def _integers(graph: gs.Graph, image: str) -> set[str]:
    """The image, and what is computed of it, as long as these are integers: no derivative flows there,
    but the layers behind them are layers.
    """
    found = {each.name for each in graph.inputs if each.name == image and not is_float(each)}
    for node in graph.nodes:
        if found & {each.name for each in node.inputs} and not traits_of(node).reads_shape:
            found |= {each.name for each in node.outputs if not is_float(each)}
    return found


def _is_spatial(tensor: gs.Tensor, axis: int) -> bool:
    if tensor.shape is None or len(tensor.shape) != 4 or not axis:
        return False
    return any(dim != 1 for i, dim in enumerate(tensor.shape) if i not in (0, axis))


def candidates(model: Model, layers: list[Layer]) -> list[Layer]:
    """The layers that an automatic choice is made among, the last first: those that everything passes
    through, each at the end of its activation.

    Where a class token is read alone, the first of them is the input of the last attention behind its
    normalisation: behind it the other tokens are not read, and before it they are as large as they have
    grown along the residual connections, a few channels a thousand times as large as the rest.
    """
    tensors = model.graph.tensors()
    found = [
        each for each in reversed(layers) if each.is_bottleneck and not _goes_on(tensors[each.name])
    ]
    return [each for each in found if not _projects(tensors[each.name])] or found


def automatic(model: Model, image: str, score: str, layers: list[Layer]) -> list[Layer]:
    """The last of the candidates; or the last layers of several branches where there is no candidate, or
    where the features go on to coarser grids behind it, as to the heads of a detector. Empty if there is none.
    """
    found = candidates(model, layers)[:1]
    behind = layers[layers.index(found[0]) + 1 :] if found else []
    if found and not any(
        _is_coarser(each, found[0]) for each in behind if not each.ignored_by_score
    ):
        return found
    several = branch_ends(model, image, score, layers)
    coarser = any(_is_coarser(each, found[0]) for each in several) if found else True
    apart = len({each.grid for each in several}) == len(
        several
    )  # features and their weights are not
    return several if coarser and (apart or not found) else found


def _is_coarser(layer: Layer, than: Layer) -> bool:
    """Whether a grid has fewer cells; of sizes that are known by name, whether it is another one."""
    grids = [[each for each in grid if isinstance(each, int)] for grid in (layer.grid, than.grid)]
    if min(map(len, grids)) < 2:
        return layer.grid != than.grid
    return math.prod(grids[0]) < math.prod(grids[1])


def branch_ends(model: Model, image: str, score: str, layers: list[Layer]) -> list[Layer]:
    """The last layers on all ways from the image to the score: everything passes through one of these. Empty
    where a way has no layer, or where the branches are so many that a map of each would tell nothing.
    """
    tensors = model.graph.tensors()
    named = {each.name: each for each in layers if not each.ignored_by_score}
    last = {name for name in named if not _goes_on(tensors[name]) and not _projects(tensors[name])}
    path, flow, dead = _ways(model, image, score)
    open_now, found = {score}, set[str]()
    for node in reversed(prune_ignored(path, flow, dead).nodes):
        if open_now & {each.name for each in node.outputs}:
            given = {each.name for each in node.inputs} & path.tensors
            found |= given & last
            open_now |= given - last
    whole = image not in open_now and len(found) <= BRANCHES
    return [each for each in layers if whole and each.name in found]


def _projects(tensor: gs.Tensor) -> bool:
    """Whether tokens were only multiplied by weights: queries, keys and values in one tensor or apart, the
    scores of every token. What they were made of tells the same, in features that have a meaning.
    """
    node = producer(tensor)
    if node is None:
        return False
    if traits_of(node).moves in ("view", "transpose", "slice"):
        return _projects(node.inputs[0])
    varying = [each for each in node.inputs if not isinstance(each, gs.Constant)]
    if node.op in ("MatMul", "Gemm"):
        return len(varying) == 1
    return node.op in ("Add", "Mul") and len(varying) == 1 and _projects(varying[0])


def _goes_on(tensor: gs.Tensor) -> bool:
    """Whether the tensor is but the input of the activation that finishes its layer."""
    readers = [
        each for each in tensor.outputs if each.op != "QuantizeLinear"
    ]  # its pair reads it too
    if {each.op for each in readers} in ({"Sigmoid", "Mul"}, {"HardSigmoid", "Mul"}):
        return True  # SiLU and HardSwish, as exporters write them
    return len(readers) == 1 and _finishes(readers[0])


def _finishes(node: gs.Node) -> bool:
    """Whether the output is the same layer still as the input: Conv -> BatchNormalization -> Relu."""
    traits = traits_of(node)
    return traits.elementwise in ("unary", "channelwise") or traits.moves in ("pad", "transpose")


def find_layer(layers: list[Layer], name: str) -> Layer:
    """The layer of that name, or the one whose name holds it or fits it as a pattern (`*block3*Relu*`).
    UnknownNameError with the ones that fit, or with the close ones.
    """
    names = [each.name for each in layers]
    fitting = [each for each in names if each == name] or _fitting(names, name)
    if len(fitting) > 1:
        listed = ", ".join(fitting[:LISTED]) + (", …" if len(fitting) > LISTED else "")
        message = f"layer {name!r} matches {len(fitting)} layers: {listed}; name one"
        raise UnknownNameError(message, name, names, fitting)
    if not fitting:
        raise unknown("layer", name, names, "see `onnxcam layers --all`")
    return layers[names.index(fitting[0])]


def _fitting(names: list[str], pattern: str) -> list[str]:
    if set(pattern) & set("*?["):
        return [each for each in names if fnmatchcase(each, pattern)]
    return [each for each in names if pattern and pattern in each]
