"""Which axis of a tensor holds the channels, derived from the operators around it.

For convolutions and pooling it is axis 1; Transpose moves it; other operators keep it if they keep the rank.
Sizes decide only for an image input that no such operator is near.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.graph.operators import traits_of

COLORS = frozenset({1, 3, 4})  # channels of an image: gray, RGB, RGBA


def channel_axes(graph: gs.Graph) -> dict[str, int]:
    """The channel axis of each tensor for which it is known, by name."""
    axes: dict[str, int] = {}
    for _ in range(2):  # the second round spreads what the first one learned at the other end
        for node in graph.nodes:
            _propagate(node, axes)
        for node in reversed(graph.nodes):
            _propagate(node, axes)
    return axes


def _propagate(node: gs.Node, axes: dict[str, int]) -> None:
    """Add to `axes` what a node implies about its input and output."""
    if not node.inputs or not node.outputs:
        return
    source, output = node.inputs[0], node.outputs[0]
    traits = traits_of(node)
    if traits.window or traits.moves == "blocks" or traits.channels_second:
        axes[source.name] = axes[output.name] = 1
    elif node.op == "Transpose" and source.shape is not None:
        perm = node.attrs.get("perm", list(range(len(source.shape)))[::-1])
        if source.name in axes:
            axes.setdefault(output.name, perm.index(axes[source.name]))
        elif output.name in axes:
            axes[source.name] = perm[axes[output.name]]
    elif not traits.contracts and traits.moves not in ("view", "transpose", "gather"):
        _share(node, axes)


def _share(node: gs.Node, axes: dict[str, int]) -> None:
    """Give the tensors of a node that have the rank of its output the same channel axis."""
    rank = len(node.outputs[0].shape or ())
    if rank <= 2:
        return
    tensors = [
        tensor
        for tensor in (*node.inputs, *node.outputs)
        if isinstance(tensor, gs.Variable)
        and tensor.shape is not None
        and len(tensor.shape) == rank
    ]
    axis = next((axes[tensor.name] for tensor in tensors if tensor.name in axes), None)
    if axis is not None:
        for tensor in tensors:
            axes.setdefault(tensor.name, axis)


def image_channel_axis(graph: gs.Graph, image: gs.Tensor) -> int:
    """The channel axis of an image input (1 or 3), by its sizes if no operator implies it."""
    if axis := channel_axes(graph).get(image.name):
        return axis
    return 3 if image.shape[3] in COLORS and image.shape[1] not in COLORS else 1


def image_layout(graph: gs.Graph, image: str) -> str:
    """The layout of the image input with this name: "NCHW" or "NHWC"."""
    tensor = next(tensor for tensor in graph.inputs if tensor.name == image)
    return "NCHW" if image_channel_axis(graph, tensor) == 1 else "NHWC"
