"""The window of a convolution or pool: how its kernel moves over the spatial axes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.graph.attributes import arguments

MAX_SPAN = 1 << 24  # cells that a kernel, stride or pad may span: more is a mistake, or an attack


@dataclass(frozen=True)
class Window:
    """Kernel, strides, dilations and pads of Conv, ConvTranspose and the pools, one number per spatial axis.

    `begin` and `end` are the pads; None where they depend on an unknown size of the input (SAME with a
    stride). `ceil` rounds the number of positions up.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int | None, ...]
    end: tuple[int | None, ...]
    upper: bool = True
    same: bool = False
    ceil: bool = False

    @property
    def extents(self) -> tuple[int, ...]:
        """The number of cells that the dilated kernel spans, per axis."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def output_dim(self, axis: int, dim: int | str | None) -> int | str | None:
        """The output size for an input size of this name, as an expression: '(H-1)//2+1'."""
        stride, before, after = self.strides[axis], self.begin[axis], self.end[axis]
        if dim is None:
            return None
        if self.same:
            return dim if stride == 1 else f"-(-{_parenthesize(dim)}//{stride})"
        assert before is not None and after is not None  # noqa: S101, PT018  only SAME leaves them open
        if self.ceil:  # the last position must start inside: not a function of the slack alone
            return f"ceil({dim};{self.extents[axis]},{stride},{before},{after})"
        slack = before + after - self.extents[axis]
        if stride == 1:
            return dim if slack == -1 else f"({dim}{slack + 1:+d})"
        return f"({dim}{slack:+d})//{stride}+1" if slack else f"{_parenthesize(dim)}//{stride}+1"

    @classmethod
    def from_node(cls, node: gs.Node, opset: int) -> Window | None:
        """The window of a node; None if the size of its kernel is unknown."""
        settings = arguments(
            node,
            ("kernel_shape", "strides", "dilations", "pads", "auto_pad", "ceil_mode"),
            opset,
        )
        kernel = settings["kernel_shape"] or _kernel_of_weight(node)
        if kernel is None:
            return None
        rank = len(kernel)
        strides = tuple(settings["strides"] or (1,) * rank)
        dilations = tuple(settings["dilations"] or (1,) * rank)
        pads = settings["pads"] or (0,) * (2 * rank)
        window = cls(
            kernel=tuple(kernel),
            strides=strides,
            dilations=dilations,
            begin=tuple(pads[:rank]),
            end=tuple(pads[rank:]),
            ceil=bool(settings["ceil_mode"]),
        )
        numbers = (*window.kernel, *window.strides, *window.dilations, *map(abs, pads))
        if not all(0 <= number <= MAX_SPAN for number in numbers):
            raise ValueError(f"a window of {kernel}, strides {strides}, dilations {dilations}")
        sizes = (node.inputs[0].shape or [None] * (rank + 2))[2:]
        return window.with_auto_pad(settings["auto_pad"] or "NOTSET", sizes)

    def with_auto_pad(self, auto_pad: str, sizes: Iterable[int | str | None]) -> Window:
        """The window with the pads that `auto_pad` prescribes for these input sizes."""
        if auto_pad == "NOTSET":
            return self
        zeros = (0,) * len(self.kernel)
        if auto_pad == "VALID":
            return Window(self.kernel, self.strides, self.dilations, zeros, zeros)
        totals = [
            e - 1
            if s == 1
            else max((-(-n // s) - 1) * s + e - n, 0)
            if isinstance(n, int)
            else None
            for n, s, e in zip(sizes, self.strides, self.extents, strict=True)
        ]
        smaller = tuple(None if t is None else t // 2 for t in totals)
        larger = tuple(None if t is None else t - t // 2 for t in totals)
        upper = auto_pad == "SAME_UPPER"
        begin, end = (smaller, larger) if upper else (larger, smaller)
        return Window(self.kernel, self.strides, self.dilations, begin, end, upper, same=True)


def _kernel_of_weight(node: gs.Node) -> tuple[int, ...] | None:
    shape = node.inputs[1].shape if len(node.inputs) > 1 else None
    if shape is None or not all(isinstance(dim, (int, np.integer)) for dim in shape[2:]):
        return None
    return tuple(shape[2:])


def _parenthesize(dim: int | str) -> str:
    return str(dim) if str(dim).isidentifier() else f"({dim})"
