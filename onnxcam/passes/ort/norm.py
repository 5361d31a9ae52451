"""Normalisations, with what is added before them."""

from __future__ import annotations

import numpy as np

from onnxcam.graph import anp
from onnxcam.graph.tracing import Value
from onnxcam.passes.decomposition import Outputs
from onnxcam.passes.ort.activation import silu
from onnxcam.passes.ort.registry import decomposes

OWN = 17  # the opset from which ONNX has LayerNormalization


def _wide(x: Value) -> Value:
    """Statistics are of float32 where the values are of a half precision."""
    return x if x.dtype == np.float64 else x.astype(np.dtype(np.float32))


def _over(x: Value, axis: int) -> list[int]:
    return list(range(axis % x.ndim, x.ndim))


def _scaled(y: Value, like: Value, scale: Value, shift: Value | None = None) -> Value:
    y = y.astype(like.dtype) * scale.astype(like.dtype)
    return y if shift is None else y + shift.astype(like.dtype)


@decomposes("LayerNormalization")
def _layer(
    x: Value,
    scale: Value,
    shift: Value | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Outputs:
    """y, the mean, and one over the deviation. Of before opset 17, where ONNX had none."""
    del stash_type
    if x.build.opset >= OWN:
        given = [scale.astype(x.dtype), *([] if shift is None else [shift.astype(x.dtype)])]
        return x.build.ops("LayerNormalization", x, *given, outputs=3, axis=axis, epsilon=epsilon)
    wide, axes = _wide(x), _over(x, axis)
    mean = anp.mean(wide, axis=axes, keepdims=True)
    centred = wide - mean
    deviation = anp.sqrt(anp.mean(centred * centred, axis=axes, keepdims=True) + epsilon)
    return _scaled(centred / deviation, x, scale, shift), mean, anp.reciprocal(deviation)


@decomposes("SimplifiedLayerNormalization")
def _root_mean_square(
    x: Value, scale: Value, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Outputs:
    """y and one over the root of the mean square (Zhang and Sennrich 2019, arXiv:1910.07467)."""
    del stash_type
    wide, axes = _wide(x), _over(x, axis)
    root = anp.sqrt(anp.mean(wide * wide, axis=axes, keepdims=True) + epsilon)
    return _scaled(wide / root, x, scale), anp.reciprocal(root)


@decomposes("SkipLayerNormalization")
def _skip_layer(
    x: Value,
    skip: Value,
    gamma: Value,
    beta: Value | None = None,
    bias: Value | None = None,
    *,
    epsilon: float = 1e-12,
) -> Outputs:
    """y, the mean, one over the deviation, and the sum that was normalised."""
    total = x + skip if bias is None else x + bias + skip
    y, mean, inverse = _layer(total, gamma, beta, epsilon=epsilon)  # type: ignore[misc]
    return y, mean, inverse, total


@decomposes("SkipSimplifiedLayerNormalization")
def _skip_root_mean_square(
    x: Value, skip: Value, gamma: Value, bias: Value | None = None, *, epsilon: float = 1e-12
) -> Outputs:
    total = x + skip if bias is None else x + bias + skip
    y, inverse = _root_mean_square(total, gamma, epsilon=epsilon)  # type: ignore[misc]
    return y, None, inverse, total


@decomposes("GroupNorm")
def _group(
    x: Value,
    gamma: Value,
    beta: Value,
    *,
    groups: int,
    activation: int = 0,
    channels_last: int = 1,
    epsilon: float = 1e-5,
) -> Value:
    """Wu and He 2018 (arXiv:1803.08494), with an activation behind it: 1 is SiLU."""
    first = [0, x.ndim - 1, *range(1, x.ndim - 1)]
    whole = anp.transpose(x, first) if channels_last else x
    shape = whole.shape
    ones = x.build.constant(np.ones(groups), x.dtype)
    rows = anp.reshape(whole, [0, groups, -1])
    y = x.build.op("InstanceNormalization", rows, ones, ones * 0, epsilon=epsilon)
    y = x.build.reshape_like(y, whole) if None not in shape else y
    per_channel = [-1] + [1] * (x.ndim - 2)
    y = _scaled(y, x, anp.reshape(gamma, per_channel), anp.reshape(beta, per_channel))
    y = silu(y) if activation else y
    return anp.transpose(y, [0, *range(2, x.ndim), 1]) if channels_last else y


@decomposes("SkipGroupNorm")
def _skip_group(
    x: Value,
    gamma: Value,
    beta: Value,
    skip: Value,
    bias: Value | None = None,
    *,
    groups: int,
    activation: int = 0,
    channels_last: int = 1,
    epsilon: float = 1e-5,
) -> Outputs:
    """y and the sum that was normalised; skip is of the shape of x, or (N, C) or (N, 1, 1, C)."""
    if skip.ndim == 2 or not channels_last:
        return (None, None)
    total = x + skip if bias is None else x + bias + skip
    form = {"groups": groups, "activation": activation, "channels_last": channels_last}
    return _group(total, gamma, beta, epsilon=epsilon, **form), total  # type: ignore[return-value]
