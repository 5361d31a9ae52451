"""ONNX Runtime's fused convolutions: with an activation or a sum, or with the channels last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnxcam.graph import anp
from onnxcam.graph.reachability import producer
from onnxcam.graph.tracing import Value
from onnxcam.passes.ort.activation import activate
from onnxcam.passes.ort.registry import decomposes


def channels_second(x: Value) -> Value:
    """(N, H, W, C) as (N, C, H, W); undoes a `channels_last` without writing a second Transpose."""
    node: Any = producer(x.tensor)
    is_transpose = node is not None and node.op == "Transpose" and not node.domain
    if is_transpose and list(node.attrs.get("perm", [])) == [0, *range(2, x.ndim), 1]:
        return Value(x.build, node.inputs[0])
    return anp.transpose(x, [0, x.ndim - 1, *range(1, x.ndim - 1)])


def channels_last(x: Value) -> Value:
    """(N, C, H, W) as (N, H, W, C)."""
    return anp.transpose(x, [0, *range(2, x.ndim), 1])


@decomposes("FusedConv")
def conv(
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
    return activate(y if z is None else y + z, activation, activation_params)


@decomposes("NhwcFusedConv")
def _nhwc_fused_conv(
    x: Value, w: Value, b: Value | None = None, z: Value | None = None, **attributes: Any
) -> Value | None:
    """The weights are (M, C, kH, kW), as those of Conv."""
    addend = None if z is None else channels_second(z)
    y: Any = conv(channels_second(x), w, b, addend, **attributes)
    return None if y is None else channels_last(y)


@decomposes("NhwcConv")
def _nhwc_conv(x: Value, w: Value, b: Value | None = None, **attributes: Any) -> Value:
    """The weights are (M, kH, kW, C)."""
    y: Any = conv(channels_second(x), channels_second(w), b, **attributes)
    return channels_last(y)


@decomposes("NhwcMaxPool")
def _nhwc_max_pool(x: Value, **attributes: Any) -> Value:
    return channels_last(x.build.op("MaxPool", channels_second(x), **attributes))
