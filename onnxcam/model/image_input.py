"""Which axis of a tensor holds the channels, found from the operators around it.

Convolutions and pools say it (axis 1); Transpose carries it over; everything that keeps the rank keeps it.
Nothing is guessed from sizes except for an input that no such operator is near.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError
from onnxcam.graph.node_errors import reports_node
from onnxcam.model.model import Model
from onnxcam.specs import ImageInput

CHANNELS_SECOND = {
    *("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool"),
    *("GlobalMaxPool", "GlobalLpPool", "BatchNormalization", "InstanceNormalization", "LRN"),
    *("GroupNormalization", "DepthToSpace", "SpaceToDepth", "MaxUnpool"),
}
KEEPING_CHANNELS = {"Add", "Cast", "Clip", "Div", "Identity", "Mul", "Sub", "Transpose"}
REARRANGING = {"Reshape", "Flatten", "MatMul", "Gemm", "Einsum", "Transpose", "Gather", "Shape"}


def channel_axes(graph: gs.Graph) -> dict[str, int]:
    """The channel axis of every tensor of which it is known."""
    found: dict[str, int] = {}
    for _ in range(2):  # what is learned at the far end comes back in the second round
        for node in graph.nodes:
            _learn(node, found)
        for node in reversed(graph.nodes):
            _learn(node, found)
    return found


def _learn(node: gs.Node, found: dict[str, int]) -> None:
    if not node.inputs or not node.outputs:
        return
    given, left = node.inputs[0], node.outputs[0]
    if node.op in CHANNELS_SECOND:
        found[given.name] = found[left.name] = 1
    elif node.op == "Transpose" and given.shape is not None:
        perm = node.attrs.get("perm", list(range(len(given.shape)))[::-1])
        if given.name in found:
            found.setdefault(left.name, perm.index(found[given.name]))
        elif left.name in found:
            found[given.name] = perm[found[left.name]]
    elif node.op not in REARRANGING:
        _share(node, found)


def _share(node: gs.Node, found: dict[str, int]) -> None:
    """Operators that keep the rank keep the axis."""
    rank = len(node.outputs[0].shape or ())
    alike = [
        each
        for each in (*node.inputs, *node.outputs)
        if each.shape is not None and len(each.shape) == rank and not isinstance(each, gs.Constant)
    ]
    axis = next((found[each.name] for each in alike if each.name in found), None)
    if axis is not None and rank > 2:
        for each in alike:
            found.setdefault(each.name, axis)


@reports_node
def image_input(model: Model) -> ImageInput:
    """The input that takes pictures. ModelError if there is none, or inputs beside it."""
    pictures = [each for each in model.graph.inputs if each.shape and len(each.shape) == 4]
    if not pictures:
        listed = ", ".join(f"{each.name} {each.shape}" for each in model.graph.inputs)
        raise ModelError(
            f"{model.name}: no input takes pictures (four axes); its inputs: {listed or 'none'}"
        )
    others = [each.name for each in model.graph.inputs if each is not pictures[0]]
    if others:
        raise ModelError(
            f"{model.name}: takes {', '.join(others)} beside the picture {pictures[0].name!r}; "
            "only models of one input can be explained: make the others constants"
        )
    tensor = pictures[0]
    axis = channel_axes(model.graph).get(tensor.name) or _likely_axis(tensor.shape)
    sizes = [dim if isinstance(dim, int) else None for dim in tensor.shape]
    height, width = (sizes[2], sizes[3]) if axis == 1 else (sizes[1], sizes[2])
    layout, channels = "NCHW" if axis == 1 else "NHWC", sizes[axis]
    read = _channels_read(model.graph, tensor.name)
    if read and (channels or 1) > 1 and channels != read:  # one channel may be broadcast to several
        raise ModelError(
            f"{model.name}: the input {tensor.name!r} is declared with {channels} channels, but the "
            f"convolution that reads it takes {read}; export the model again"
        )
    channels = channels or read
    return ImageInput(tensor.name, layout, channels, height, width, sizes[0], tensor.dtype)


def _channels_read(graph: gs.Graph, image: str) -> int | None:
    """The channels that the weights of the first convolution take; None if no convolution tells."""
    same = {image}  # tensors with the channels of the input
    for node in graph.nodes:
        if not node.inputs or not node.outputs or node.inputs[0].name not in same:
            continue
        if node.op == "Conv" and isinstance(node.inputs[1], gs.Constant):
            return int(node.inputs[1].shape[1]) * int(node.attrs.get("group", 1))
        if node.op in KEEPING_CHANNELS:
            same.add(node.outputs[0].name)
    return None


def image_layout(graph: gs.Graph, image: str) -> str:
    """ "NCHW" or "NHWC": how the input of that name holds its pictures."""
    tensor = next(each for each in graph.inputs if each.name == image)
    axis = channel_axes(graph).get(image) or _likely_axis(tensor.shape)
    return "NCHW" if axis == 1 else "NHWC"


def _likely_axis(shape: list[int | str]) -> int:
    return 3 if shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4) else 1
