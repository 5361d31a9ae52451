"""The layers of a model that a map can be drawn of, and the automatic choice among them."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_graphsurgeon as gs

from onnxcam.errors import unknown
from onnxcam.graph.layout import channel_axes
from onnxcam.graph.model import Model
from onnxcam.graph.path import between, carries_floats, cuts, is_float
from onnxcam.graph.shapes import Dim, Shape

# What follows such an operator's input is the same layer still: Conv -> BatchNormalization -> Relu
FINISHING = {
    *("BatchNormalization", "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Clip", "Tanh"),
    *("HardSigmoid", "HardSwish", "Sigmoid", "Gelu", "Mish", "Swish", "Softplus", "Softsign"),
    *("Identity", "Cast", "Dropout", "Transpose", "ThresholdedRelu", "Pad"),
}


@dataclass(frozen=True)
class Layer:
    """A spatial tensor between the picture and the score.

    `whole` says that everything the score sees of the picture passes through it; `automatic` that it is
    what `layer="auto"` takes for a method that runs the picture once, `automatic_smooth` for one that smooths.
    """

    name: str
    op: str
    shape: Shape
    channel_axis: int
    whole: bool
    automatic: bool = False
    automatic_smooth: bool = False

    @property
    def layout(self) -> str:
        """ "NCHW" or "NHWC"."""
        return "NCHW" if self.channel_axis == 1 else "NHWC"

    @property
    def grid(self) -> tuple[Dim, Dim]:
        """Height and width in cells."""
        height, width = (dim for i, dim in enumerate(self.shape) if i not in (0, self.channel_axis))
        return height, width

    @property
    def channels(self) -> Dim:
        """How many feature maps."""
        return self.shape[self.channel_axis]


def spatial_layers(model: Model, image: str, score: str) -> list[Layer]:
    """Every tensor (N, C, h, w) or (N, h, w, C) with h w > 1 on the way from the image to the score, in
    the graph's order.
    """
    integers = _integers(model.graph, image)

    def carries(node: gs.Node, slot: int) -> bool:
        return carries_floats(node, slot) or node.inputs[slot].name in integers

    path = between(model.graph, {image, *integers}, {score}, carries)
    axes = channel_axes(model.graph)
    whole = set(cuts(path))
    return [
        Layer(
            tensor.name,
            node.op,
            tuple(tensor.shape),
            axes.get(tensor.name, 1),
            tensor.name in whole,
        )
        for node in path.nodes
        for tensor in node.outputs
        if tensor.name in path.tensors and _is_spatial(tensor, axes.get(tensor.name, 1))
    ]


def _integers(graph: gs.Graph, image: str) -> set[str]:
    """The image, and what is computed of it, as long as these are integers: no derivative flows there,
    but the layers behind them are layers.
    """
    found = {each.name for each in graph.inputs if each.name == image and not is_float(each)}
    for node in graph.nodes:
        if found & {each.name for each in node.inputs} and node.op not in ("Shape", "Size"):
            found |= {each.name for each in node.outputs if not is_float(each)}
    return found


def _is_spatial(tensor: gs.Tensor, axis: int) -> bool:
    if tensor.shape is None or len(tensor.shape) != 4 or not axis:
        return False
    return any(dim != 1 for i, dim in enumerate(tensor.shape) if i not in (0, axis))


def candidates(model: Model, layers: list[Layer]) -> list[Layer]:
    """The layers that an automatic choice is made among, the last first: those that everything passes
    through, each at the end of its activation.
    """
    tensors = model.graph.tensors()
    return [each for each in reversed(layers) if each.whole and not _goes_on(tensors[each.name])]


def _goes_on(tensor: gs.Tensor) -> bool:
    """Whether the tensor is but the input of the activation that finishes its layer."""
    readers = tensor.outputs
    if {each.op for each in readers} == {"Sigmoid", "Mul"} or {each.op for each in readers} == {
        "HardSigmoid",
        "Mul",
    }:
        return True  # SiLU and HardSwish, as exporters write them
    return len(readers) == 1 and readers[0].op in FINISHING


def find_layer(layers: list[Layer], name: str) -> Layer:
    """The layer of that name; UnknownNameError with the close ones."""
    for each in layers:
        if each.name == name:
            return each
    raise unknown("layer", name, [each.name for each in layers], "see `onnxcam layers --all`")
