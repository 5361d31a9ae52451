"""Convolutions with an activation or a sum, and what is computed with the channels last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnxcam.graph import anp
from onnxcam.graph.reachability import producer
from onnxcam.graph.tracing import Value
from onnxcam.passes.ort.activation import activated
from onnxcam.passes.ort.registry import decomposes


def channels_second(x: Value) -> Value:
    """(N, H, W, C) as (N, C, H, W); what was just turned the other way is taken from before that."""
    order = [0, x.ndim - 1, *range(1, x.ndim - 1)]
    maker: Any = producer(x.tensor)
    turned = maker is not None and maker.op == "Transpose" and not maker.domain
    if turned and list(maker.attrs.get("perm", [])) == [0, *range(2, x.ndim), 1]:
        return Value(x.build, maker.inputs[0])
    return anp.transpose(x, order)


def channels_last(x: Value) -> Value:
    """(N, C, H, W) as (N, H, W, C)."""
    return anp.transpose(x, [0, *range(2, x.ndim), 1])


@decomposes("FusedConv")
def convolution(
    x: Value,
    w: Value,
    b: Value | None = None,
    z: Value | None = None,
    *,
    activation: str = "",
    activation_params: Sequence[float] = (),
    **attributes: Any,
) -> Value | None:
    """activation(w * x + b + z)."""
    y = x.build.op("Conv", x, w, *([] if b is None else [b]), **attributes)
    return activated(y if z is None else y + z, activation, activation_params)


@decomposes("NhwcFusedConv")
def _convolution_of_last(
    x: Value, w: Value, b: Value | None = None, z: Value | None = None, **attributes: Any
) -> Value | None:
    """The kernels are (M, C, kH, kW) as ever."""
    first = None if z is None else channels_second(z)
    y: Any = convolution(channels_second(x), w, b, first, **attributes)
    return None if y is None else channels_last(y)


@decomposes("NhwcConv")
def _plain_convolution_of_last(
    x: Value, w: Value, b: Value | None = None, **attributes: Any
) -> Value:
    """The kernels are (M, kH, kW, C)."""
    y: Any = convolution(channels_second(x), channels_second(w), b, **attributes)
    return channels_last(y)


@decomposes("NhwcMaxPool")
def _maximum_of_last(x: Value, **attributes: Any) -> Value:
    return channels_last(x.build.op("MaxPool", channels_second(x), **attributes))
