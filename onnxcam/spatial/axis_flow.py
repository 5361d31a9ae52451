"""What every axis of every tensor holds, followed from the image through the operators.

In a vision transformer, for example, of images with 3 channels in patches of 16 x 16 cells:

    image        (N, 3, 224, 224)    nN  c3  y224  x224
    Conv         (N, 192, 14, 14)    nN  c192  y14  x14    a window makes a new grid
    Reshape      (N, 192, 196)       nN  c192  y14·x14
    Transpose    (N, 196, 192)       nN  y14·x14  c192
    Concat       (N, 197, 192)       nN  1+(y14·x14)+0  c192    with a class token
    MatMul       (N, 197, 197)       nN  1+(y14·x14)+0  1+(y14·x14)+0    an attention: no grid, but pairs

An operator without a rule of its own keeps what the axes hold if its output has the shape of its input.
Otherwise nothing is known about its output, until a residual connection adds a tensor that is known.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.graph.operators import traits_of
from onnxcam.spatial.axes import (
    BATCH,
    CHANNELS,
    COLUMNS,
    ROWS,
    Axes,
    count_tokens,
    holds_cells,
    new_axis,
)
from onnxcam.spatial.axis_rules import Operation, rule_for

KINDS = {"N": BATCH, "C": CHANNELS, "H": ROWS, "W": COLUMNS}  # by the letters of a layout


class AxisFlow:
    """The axes of the tensors of a graph, as far as they are known; `layout` ("NCHW") is that of the image."""

    def __init__(self, graph: gs.Graph, image: str, layout: str) -> None:
        self.opset = int(graph.opset)
        tensor = next(tensor for tensor in graph.inputs if tensor.name == image)
        self.axes: dict[str, Axes] = {
            image: tuple(
                new_axis(KINDS[letter], dim, f"{image}.{letter}")
                for letter, dim in zip(layout, tensor.shape, strict=True)
            )
        }
        for node in graph.nodes:
            reached = any(tensor.name in self.axes for tensor in node.inputs)
            if reached and not traits_of(node).loses_positions:
                self._follow(node)

    def axes_of(self, tensor: gs.Tensor) -> Axes | None:
        """What the axes of a tensor hold; None if that is not known."""
        return self.axes.get(tensor.name)

    def _follow(self, node: gs.Node) -> None:
        """Record the axes of the outputs of a node."""
        operation = Operation(node, tuple(map(self.axes_of, node.inputs)), self.opset)
        rule = rule_for(node)
        held = [axis for axes in operation.sources for axis in axes or ()]
        for index, output in enumerate(node.outputs):
            if output.shape is None:
                continue
            axes = rule(operation, index)
            if axes is None and not any(map(holds_cells, held)):  # then the output holds none
                axes = tuple(
                    new_axis(CHANNELS, dim, f"{output.name}.{i}")
                    for i, dim in enumerate(output.shape)
                )
            if axes is not None and len(axes) == len(output.shape):
                self.axes[output.name] = count_tokens(axes, tuple(output.shape))
