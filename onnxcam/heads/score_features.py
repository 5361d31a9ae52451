"""The features that class scores are computed from: what the last weights before them read.

A detector has one such tensor per grid. Of a head that computes boxes, objectness and classes from different
features, those of the classes count:

    Conv (N, 80, h, w)  ─┐                        the input of this Conv
    Conv (N, 4, h, w)   ─┴ Concat, Reshape, Concat of the grids, Slice of the classes, sum over the boxes
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.graph.operators import traits_of
from onnxcam.graph.reachability import is_float, producer
from onnxcam.heads.axis_slice import AxisSlice, concat_parts, step_back, varying
from onnxcam.spatial.axis_rules import reduced_axes

UNKNOWN = -1  # an axis: all numbers of the tensor count


def score_features(graph: gs.Graph, score: str) -> list[gs.Tensor]:
    """The inputs of the last weights before a score (N, classes). The objectness of several classes does not
    count.
    """
    tensor = graph.tensors()[score]
    waiting = [AxisSlice(tensor, 1, 0, tensor.shape[1])]
    features: dict[str, gs.Tensor] = {}
    visited: set[tuple[str, int, int, int]] = set()
    while waiting:
        numbers = waiting.pop()
        node, key = producer(numbers.tensor), (numbers.tensor.name, *numbers[1:])
        if node is None or key in visited:
            continue
        visited.add(key)
        source = _weighted_input(node)
        if source is None:
            waiting += _sources(numbers, node, int(graph.opset))
        else:
            features[source.name] = source
    return list(features.values())


def _weighted_input(node: gs.Node) -> gs.Tensor | None:
    """What a node multiplies by weights, all channels by all; None if it does not."""
    traits, inputs = traits_of(node), varying(node.inputs)
    is_convolution = traits.window in ("conv", "transposed conv")
    mixes_channels = is_convolution and int(node.attrs.get("group", 1)) == 1
    return inputs[0] if len(inputs) == 1 and (mixes_channels or traits.contracts) else None


def _sources(numbers: AxisSlice, node: gs.Node, opset: int) -> list[AxisSlice]:
    """What the numbers are computed from."""
    inputs = [tensor for tensor in varying(node.inputs) if is_float(tensor)]
    if numbers.axis == UNKNOWN or any(tensor.shape is None for tensor in inputs):
        return [AxisSlice(tensor, UNKNOWN, 0, 0) for tensor in inputs]
    traits = traits_of(node)
    if node.op == "Concat":
        return _operands(numbers, node)
    if traits.elementwise or traits.normalizes:
        return _broadcast(numbers, inputs)
    if traits.reduces:
        return [_before_reduction(numbers, node, opset)]
    source = step_back(numbers)
    return [source] if source else [AxisSlice(tensor, UNKNOWN, 0, 0) for tensor in inputs]


def _operands(numbers: AxisSlice, node: gs.Node) -> list[AxisSlice]:
    """The same numbers in the operands of a Concat."""
    axis = numbers.axis
    if int(node.attrs["axis"]) % len(numbers.tensor.shape) != axis:
        return [numbers._replace(tensor=tensor) for tensor in varying(node.inputs)]
    return [
        AxisSlice(tensor, axis, max(numbers.start - start, 0), min(numbers.stop - start, size))
        for tensor, start, size in concat_parts(node, axis)
        if start < numbers.stop and numbers.start < start + size
    ]


def _broadcast(numbers: AxisSlice, inputs: list[gs.Tensor]) -> list[AxisSlice]:
    """The same numbers in the operands of an elementwise operator, without those that have one number for
    several classes.
    """
    size, rank = numbers.tensor.shape[numbers.axis], len(numbers.tensor.shape)
    axes = [numbers.axis - (rank - len(tensor.shape)) for tensor in inputs]
    aligned = [
        numbers._replace(tensor=tensor, axis=axis)
        for tensor, axis in zip(inputs, axes, strict=True)
        if axis >= 0 and tensor.shape[axis] == size
    ]
    return aligned or [AxisSlice(tensor, UNKNOWN, 0, 0) for tensor in inputs]


def _before_reduction(numbers: AxisSlice, node: gs.Node, opset: int) -> AxisSlice:
    """The same numbers before they were summed over other axes."""
    source, reduced = node.inputs[0], reduced_axes(node, opset)
    remaining = [] if reduced is None else [i for i in range(len(source.shape)) if i not in reduced]
    if len(source.shape) == len(numbers.tensor.shape) and numbers.axis in remaining:
        return numbers._replace(tensor=source)
    if len(remaining) == len(numbers.tensor.shape):
        return numbers._replace(tensor=source, axis=remaining[numbers.axis])
    return AxisSlice(source, UNKNOWN, 0, 0)
