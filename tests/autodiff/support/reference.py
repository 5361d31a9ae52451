"""Operators that onnx.reference computes in float32 only, or wrongly: in float64, as ONNX specifies them."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

from tests.autodiff.support.reference_grid_sample import AffineGrid, DeformConv, GridSample
from tests.autodiff.support.reference_recurrent import GRU, LSTM, RNN

Doubles = NDArray[np.float64]


def erf(x: Doubles) -> Doubles:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


class Erf(OpRun):  # type: ignore[misc]  # onnx has no types
    op_domain = ""

    def _run(self, x: Doubles) -> tuple[Doubles]:
        return (erf(x),)


class Gelu(OpRun):  # type: ignore[misc]  # onnx has no types
    op_domain = ""

    def _run(self, x: Doubles, approximate: str = "none") -> tuple[Doubles]:
        if approximate == "tanh":
            return (x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),)
        return (x / 2 * (1 + erf(x / math.sqrt(2))),)


class LRN(OpRun):  # type: ignore[misc]  # onnx has no types
    op_domain = ""

    def _run(self, x: Doubles, alpha: float, beta: float, bias: float, size: int) -> tuple[Doubles]:
        before, after = (size - 1) // 2, size // 2
        squares = np.stack(
            [
                np.sum(x[:, max(0, c - before) : c + after + 1] ** 2, axis=1)
                for c in range(x.shape[1])
            ],
            axis=1,
        )
        return (x / (bias + alpha / size * squares) ** beta,)


class BatchNormalization(OpRun):  # type: ignore[misc]  # onnx has no types
    op_domain = ""

    def _run(self, x: Doubles, *statistics: Doubles, **attributes: Any) -> tuple[Doubles]:
        scale, bias, mean, var = (s.reshape(-1, *[1] * (x.ndim - 2)) for s in statistics)
        return (scale * (x - mean) / np.sqrt(var + (attributes["epsilon"] or 1e-5)) + bias,)


class GroupNormalization(OpRun):  # type: ignore[misc]  # onnx has no types
    op_domain = ""

    def _run(
        self, x: Doubles, scale: Doubles, bias: Doubles, num_groups: int, **attributes: Any
    ) -> tuple[Doubles]:
        by_group = x.reshape(x.shape[0], num_groups, -1)
        centered = by_group - np.mean(by_group, axis=2, keepdims=True)
        variance = np.mean(centered**2, axis=2, keepdims=True)
        standard = (centered / np.sqrt(variance + (attributes.get("epsilon") or 1e-5))).reshape(
            x.shape
        )
        scale, bias = (s.reshape(-1, *[1] * (x.ndim - 2)) for s in (scale, bias))
        return (scale * standard + bias,)


class MeanVarianceNormalization(OpRun):  # type: ignore[misc]  # onnx has no types
    op_domain = ""

    def _run(self, x: Doubles, axes: Any = None) -> tuple[Doubles]:
        over = tuple(axes or (0, 2, 3))
        centered = x - np.mean(x, axis=over, keepdims=True)
        return (centered / (np.sqrt(np.mean(centered**2, axis=over, keepdims=True)) + 1e-9),)


class LpNormalization(OpRun):  # type: ignore[misc]  # onnx has no types
    op_domain = ""

    def _run(self, x: Doubles, axis: int | None = None, p: int | None = None) -> tuple[Doubles]:
        axis, p = -1 if axis is None else axis, p or 2
        norm = np.sum(np.abs(x) ** p, axis=axis, keepdims=True) ** (1 / p)
        return (np.where(norm > 0, x / np.where(norm > 0, norm, 1), 0),)


class GlobalMaxPool(OpRun):  # type: ignore[misc]  # onnx has no types
    op_domain = ""

    def _run(self, x: Doubles) -> tuple[Doubles]:
        return (np.max(x, axis=tuple(range(2, x.ndim)), keepdims=True),)


class Mean(OpRun):  # type: ignore[misc]  # onnx has no types
    op_domain = ""

    def _run(self, *xs: Doubles) -> tuple[Doubles]:
        return (sum(xs[1:], start=xs[0]) / len(xs),)


class Pad(OpRun):  # type: ignore[misc]  # onnx has no types
    """Amounts may be negative: then cells are cut away."""

    op_domain = ""

    def _run(
        self,
        x: Doubles,
        pads: Any,
        value: Doubles | None = None,
        axes: Any = None,
        mode: str = "constant",
        **old: Any,
    ) -> tuple[Doubles]:
        amount = np.zeros((2, x.ndim), np.int64)
        amount[:, range(x.ndim) if axes is None else axes] = np.reshape(pads, (2, -1))
        cut, add = np.maximum(-amount, 0), np.maximum(amount, 0)
        cropped = x[tuple(slice(b, n - e) for b, e, n in zip(*cut, x.shape, strict=True))]
        if mode == "constant":
            constant = old.get("value", 0.0) if value is None else value
            return (np.pad(cropped, add.T, constant_values=float(np.ravel(constant)[0])),)
        how: Any = mode
        return (np.pad(cropped, add.T, mode=how),)


class PadOfAttributes(Pad):
    """Before opset 11."""

    def _run(
        self, x: Doubles, pads: Any = (), value: Any = 0.0, *rest: Any, **old: Any
    ) -> tuple[Doubles]:
        return super()._run(x, pads, value, **old)


PadOfAttributes.__name__ = "Pad"


class Softmax(OpRun):  # type: ignore[misc]  # onnx has no types
    """Before opset 13: over all axes from `axis` on."""

    op_domain = ""

    def _run(self, x: Doubles, axis: int | None = None) -> tuple[Doubles]:
        del axis  # the evaluator gives the default of the newest opset
        attributes = {a.name: a.i for a in self.onnx_node.attribute}
        return (self._over(x, tuple(range(attributes.get("axis", 1) % x.ndim, x.ndim))),)

    def _over(self, x: Doubles, axes: tuple[int, ...]) -> Doubles:
        powers = np.exp(x - np.max(x, axis=axes, keepdims=True))
        return powers / np.sum(powers, axis=axes, keepdims=True)


class LogSoftmax(Softmax):
    def _over(self, x: Doubles, axes: tuple[int, ...]) -> Doubles:
        return np.log(super()._over(x, axes))


class Scatter(OpRun):  # type: ignore[misc]  # onnx has no types
    """Before opset 11."""

    op_domain = ""

    def _run(self, x: Doubles, indices: Any, updates: Doubles, axis: int) -> tuple[Doubles]:
        y = x.copy()
        np.put_along_axis(y, indices, updates, axis)
        return (y,)


class MaxPool(OpRun):  # type: ignore[misc]  # onnx has no types
    op_domain = ""

    def _run(self, x: Doubles, **attributes: Any) -> tuple[Doubles, ...]:
        y = np.max(Walk(x.shape[2:], attributes).taps(x, -np.inf, -np.inf), axis=0)
        return (y, np.zeros(y.shape, np.int64))[: len(self.onnx_node.output)]


class AveragePool(OpRun):  # type: ignore[misc]  # onnx has no types
    op_domain = ""

    def _run(self, x: Doubles, **attributes: Any) -> tuple[Doubles]:
        walk = Walk(x.shape[2:], attributes)
        counted = walk.taps(np.ones_like(x), float(bool(attributes.get("count_include_pad"))), 0.0)
        return (np.sum(walk.taps(x, 0.0, 0.0), axis=0) / np.sum(counted, axis=0),)


class LpPool(OpRun):  # type: ignore[misc]  # onnx has no types
    """As the reference evaluator has it, but without a loop over the windows."""

    op_domain = ""

    def _run(self, x: Doubles, p: int | None = None, **attributes: Any) -> tuple[Doubles]:
        values = np.abs(Walk(x.shape[2:], attributes).taps(x, 0.0, 0.0))
        return (np.sum(values ** (p or 2), axis=0) ** (1 / (p or 2)),)


class Walk:
    """Where the windows of a pool lie."""

    def __init__(self, sizes: tuple[int, ...], attributes: dict[str, Any]) -> None:
        self.kernel = attributes["kernel_shape"]
        rank = len(self.kernel)
        self.strides = attributes.get("strides") or [1] * rank
        self.dilations = attributes.get("dilations") or [1] * rank
        how = attributes.get("auto_pad") or "NOTSET"
        pads = (attributes.get("pads") if how == "NOTSET" else None) or [0] * (2 * rank)
        self.begin, self.end, self.out = list(pads[:rank]), list(pads[rank:]), []
        for axis, n in enumerate(sizes):
            e = self.dilations[axis] * (self.kernel[axis] - 1) + 1
            s = self.strides[axis]
            if how.startswith("SAME"):
                total = max((math.ceil(n / s) - 1) * s + e - n, 0)
                self.begin[axis] = total // 2 if how == "SAME_UPPER" else total - total // 2
                self.end[axis] = total - self.begin[axis]
            slack = (n + self.begin[axis] + self.end[axis] - e) / s
            count = (math.ceil(slack) if attributes.get("ceil_mode") else math.floor(slack)) + 1
            self.out.append(count - ((count - 1) * s >= n + self.begin[axis]))

    def taps(self, x: Doubles, pad: float, overhang: float) -> Doubles:
        """The values that each tap of the kernel reads, at every position of the window."""
        near = [(0, 0), (0, 0), *zip(self.begin, self.end, strict=True)]
        far = [
            (0, 0),
            (0, 0),
            *(
                (0, k * d + s)
                for k, d, s in zip(self.kernel, self.dilations, self.strides, strict=True)
            ),
        ]
        around = np.pad(np.pad(x, near, constant_values=pad), far, constant_values=overhang)
        values = []
        for offsets in np.ndindex(*self.kernel):
            cells = [
                slice(at * d, at * d + (o - 1) * s + 1, s)
                for at, d, o, s in zip(offsets, self.dilations, self.out, self.strides, strict=True)
            ]
            values.append(around[(slice(None), slice(None), *cells)])
        return np.stack(values)


class CausalConvWithState(OpRun):  # type: ignore[misc]  # onnx has no types
    """Each channel alone, over the tokens seen so far."""

    op_domain = ""

    def _run(
        self,
        x: Doubles,
        weight: Doubles,
        bias: Doubles | None = None,
        past_state: Doubles | None = None,
        activation: str | None = None,
    ) -> tuple[Doubles, Doubles]:
        n, channels, length = x.shape
        taps = weight.shape[2]
        past = np.zeros((n, channels, taps - 1), x.dtype) if past_state is None else past_state
        tokens = np.concatenate([past, x], axis=2)
        y = sum(weight[:, 0, k, None] * tokens[:, :, k : k + length] for k in range(taps))
        y = y if bias is None else y + bias[:, None]
        if activation in ("silu", "swish"):
            y = y / (1 + np.exp(-y))
        return np.asarray(y, x.dtype), tokens[:, :, length:]


ALWAYS = [
    CausalConvWithState,
    AffineGrid,
    Erf,
    Gelu,
    LRN,
    BatchNormalization,
    GroupNormalization,
    GlobalMaxPool,
    MaxPool,
    AveragePool,
    LpPool,
    Mean,
    MeanVarianceNormalization,
    LpNormalization,
    Scatter,
    GridSample,
    DeformConv,
    GRU,
    LSTM,
    RNN,
]


def replacement_operators(opset: int) -> list[type[OpRun]]:
    """The operators to replace in the evaluator of a model."""
    pad = [Pad if opset >= 11 else PadOfAttributes]
    return [*ALWAYS, *pad, *([Softmax, LogSoftmax] if opset < 13 else [])]
