"""Numbers along an axis of a tensor, followed back to the operator that computed them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.graph.constants import constant_values
from onnxcam.graph.operators import only_reshapes, traits_of
from onnxcam.graph.reachability import producer

SCALES = {"Mul", "Div", "Clip", "Min", "Max"}  # keep the layout of a box
KEEPS = {"Cast", "Identity"}
MAX_STEPS = 64  # operators that are followed back from a tensor


class AxisSlice(NamedTuple):
    """Numbers `start` to `stop` along an axis of a tensor."""

    tensor: gs.Tensor
    axis: int
    start: int
    stop: int

    @property
    def is_all(self) -> bool:
        """Whether the tensor has no other numbers along the axis."""
        return bool(self.start == 0 and self.tensor.shape[self.axis] == self.stop)


def last_slice(tensor: gs.Tensor) -> AxisSlice:
    """All numbers along the last axis."""
    axis = len(tensor.shape) - 1
    return AxisSlice(tensor, axis, 0, tensor.shape[axis])


def writer(numbers: AxisSlice, *, scaled: bool = False, joined: bool = False) -> AxisSlice:
    """The same numbers where they are computed: before operators that only move them, and, if `scaled`, scale
    or clip them. `joined` goes back to the first of several grids that were joined.
    """
    for _ in range(MAX_STEPS):
        source = step_back(numbers, scaled=scaled, joined=joined)
        if source is None:
            break
        numbers = source
    return numbers


def operands(numbers: AxisSlice) -> list[gs.Tensor]:
    """The operands of the Concat that wrote these numbers; the tensor itself without one."""
    node = producer(numbers.tensor)
    if node is None or node.op != "Concat":
        return [numbers.tensor]
    return [
        tensor
        for tensor, start, size in concat_parts(node, numbers.axis)
        if start < numbers.stop and start + size > numbers.start
    ] or [numbers.tensor]


def varying(tensors: Sequence[gs.Tensor]) -> list[gs.Tensor]:
    """The tensors that are not constant."""
    return [t for t in tensors if constant_values(t) is None and not t.is_empty()]


def step_back(
    numbers: AxisSlice, *, scaled: bool = False, joined: bool = False
) -> AxisSlice | None:
    """The same numbers before the node that moved or scaled them; None if it computes them."""
    tensor, axis, start, stop = numbers
    node = producer(tensor)
    if node is None or tensor.shape is None:
        return None
    traits, source = traits_of(node), node.inputs[0]
    if node.op == "Concat":
        if int(node.attrs["axis"]) % len(tensor.shape) != axis:
            return numbers._replace(tensor=source) if joined else None
        return _part(numbers, node)
    if node.op in ("Slice", "Split"):
        shift = _shift(node, tensor, axis)
        return None if shift is None else AxisSlice(source, axis, start + shift, stop + shift)
    if traits.moves == "transpose":
        perm = node.attrs.get("perm", range(len(tensor.shape))[::-1])
        return numbers._replace(tensor=source, axis=int(perm[axis]))
    if node.op in KEEPS or (scaled and node.op in SCALES):
        same = [t for t in varying(node.inputs) if t.shape and len(t.shape) == len(tensor.shape)]
        sized = [t for t in same if t.shape[axis] == tensor.shape[axis]]
        return numbers._replace(tensor=sized[0]) if sized else None
    if only_reshapes(traits):
        source_axis = axis_in_source(source, tensor, axis)
        return None if source_axis is None else AxisSlice(source, source_axis, start, stop)
    return None


def _part(numbers: AxisSlice, node: gs.Node) -> AxisSlice | None:
    """The operand of a Concat that holds all of the numbers; None if several do."""
    for tensor, start, size in concat_parts(node, numbers.axis):
        if start <= numbers.start and numbers.stop <= start + size:
            return AxisSlice(tensor, numbers.axis, numbers.start - start, numbers.stop - start)
    return None


def concat_parts(node: gs.Node, axis: int) -> list[tuple[gs.Tensor, int, int]]:
    """The operands of a Concat along the axis, with their first number and size; empty if a size is unknown."""
    parts, start = [], 0
    for tensor in node.inputs:
        size = tensor.shape[axis] if tensor.shape else None
        if not isinstance(size, int):
            return []
        parts.append((tensor, start, size))
        start += size
    return parts


def _shift(node: gs.Node, tensor: gs.Tensor, axis: int) -> int | None:
    """By how much a Slice or Split moved the numbers along the axis, if it changes no other axis."""
    rank = len(tensor.shape)
    if node.op == "Split":
        if int(node.attrs.get("axis", 0)) % rank != axis:
            return None
        sizes = [output.shape[axis] for output in node.outputs[: node.outputs.index(tensor)]]
        return sum(sizes) if all(isinstance(size, int) for size in sizes) else None
    starts, axes, steps = (_integers(node, name, slot) for name, slot in zip(*SLICE, strict=True))
    axes = axes or list(range(len(starts)))
    if [a % rank for a in axes] != [axis] or (steps or [1]) != [1]:
        return None
    size = node.inputs[0].shape[axis] if node.inputs[0].shape else None
    if starts[0] >= 0:
        return starts[0]
    return starts[0] + size if isinstance(size, int) else None


SLICE = ("starts", "axes", "steps"), (1, 3, 4)  # attributes of old opsets, inputs of new ones


def _integers(node: gs.Node, name: str, slot: int) -> list[int]:
    """An argument of a Slice; empty if it is left out or computed."""
    if name in node.attrs:
        return [int(number) for number in node.attrs[name]]
    values = constant_values(node.inputs[slot]) if slot < len(node.inputs) else None
    return [] if values is None else np.asarray(values, np.int64).ravel().tolist()


def axis_in_source(source: gs.Tensor, tensor: gs.Tensor, axis: int) -> int | None:
    """The axis of `source` that a Reshape kept: of the same size, with the same sizes before or after it."""
    if source.shape is None or tensor.shape is None:
        return None
    for is_before in (True, False):
        sizes = tensor.shape[:axis] if is_before else tensor.shape[axis + 1 :]
        for index, dim in enumerate(source.shape):
            source_sizes = source.shape[:index] if is_before else source.shape[index + 1 :]
            if dim == tensor.shape[axis] and _product(source_sizes) == _product(sizes):
                return index
    return None


def _product(shape: list[int | str]) -> tuple[int, tuple[str, ...]]:
    """The product of the numbers, and the names."""
    numbers = [dim for dim in shape if isinstance(dim, int)]
    names = tuple(sorted(str(dim) for dim in shape if not isinstance(dim, int)))
    return int(np.prod(numbers, dtype=np.int64)), names
