"""ONNX Runtime's normalizations: LayerNormalization before opset 17, and others with a sum before them."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import FLOAT32
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value
from onnxcam.passes.decomposition import Outputs
from onnxcam.passes.ort.activation import silu
from onnxcam.passes.ort.registry import decomposes

LAYER_NORMALIZATION_OPSET = 17  # the first of ONNX that has it


def _to_statistics_dtype(x: Value) -> Value:
    """x as float32, in which statistics of half precision are computed; float64 stays."""
    return x if x.dtype == np.float64 else x.astype(FLOAT32)


def _trailing_axes(x: Value, axis: int) -> list[int]:
    return list(range(axis % x.ndim, x.ndim))


def _scale_and_shift(y: Value, like: Value, scale: Value, shift: Value | None = None) -> Value:
    y = y.astype(like.dtype) * scale.astype(like.dtype)
    return y if shift is None else y + shift.astype(like.dtype)


@decomposes("LayerNormalization")
def _layer_norm(
    x: Value,
    scale: Value,
    shift: Value | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Outputs:
    """y, the mean, and 1 / the standard deviation."""
    del stash_type
    if x.build.opset >= LAYER_NORMALIZATION_OPSET:
        scales = [value.astype(x.dtype) for value in (scale, shift) if value is not None]
        return x.build.ops("LayerNormalization", x, *scales, outputs=3, axis=axis, epsilon=epsilon)
    wide, axes = _to_statistics_dtype(x), _trailing_axes(x, axis)
    mean = anp.mean(wide, axis=axes, keepdims=True)
    centered = wide - mean
    deviation = anp.sqrt(anp.mean(centered * centered, axis=axes, keepdims=True) + epsilon)
    return _scale_and_shift(centered / deviation, x, scale, shift), mean, anp.reciprocal(deviation)


@decomposes("SimplifiedLayerNormalization")
def _rms_norm(
    x: Value, scale: Value, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Outputs:
    """y and 1 / the root of the mean square (Zhang and Sennrich 2019, arXiv:1910.07467)."""
    del stash_type
    wide, axes = _to_statistics_dtype(x), _trailing_axes(x, axis)
    root = anp.sqrt(anp.mean(wide * wide, axis=axes, keepdims=True) + epsilon)
    return _scale_and_shift(wide / root, x, scale), anp.reciprocal(root)


@decomposes("SkipLayerNormalization")
def _skip_layer_norm(
    x: Value,
    skip: Value,
    gamma: Value,
    beta: Value | None = None,
    bias: Value | None = None,
    *,
    epsilon: float = 1e-12,
) -> Outputs:
    """y, the mean, 1 / the standard deviation, and the sum that is normalized."""
    total = x + skip if bias is None else x + bias + skip
    y, mean, inverse = _layer_norm(total, gamma, beta, epsilon=epsilon)  # type: ignore[misc]
    return y, mean, inverse, total


@decomposes("SkipSimplifiedLayerNormalization")
def _skip_rms_norm(
    x: Value, skip: Value, gamma: Value, bias: Value | None = None, *, epsilon: float = 1e-12
) -> Outputs:
    total = x + skip if bias is None else x + bias + skip
    y, inverse = _rms_norm(total, gamma, epsilon=epsilon)  # type: ignore[misc]
    return y, None, inverse, total


@decomposes("GroupNorm")
def _group_norm(
    x: Value,
    gamma: Value,
    beta: Value,
    *,
    groups: int,
    activation: int = 0,
    channels_last: int = 1,
    epsilon: float = 1e-5,
) -> Value:
    """Group normalization (Wu and He 2018, arXiv:1803.08494); `activation` 1 is a SiLU after it."""
    channels_second = [0, x.ndim - 1, *range(1, x.ndim - 1)]
    images = anp.transpose(x, channels_second) if channels_last else x
    ones = x.build.constant(np.ones(groups), x.dtype)
    rows = anp.reshape(images, [0, groups, -1])
    y = x.build.op("InstanceNormalization", rows, ones, ones * 0, epsilon=epsilon)
    y = y if None in images.shape else x.build.reshape_like(y, images)
    per_channel = [-1] + [1] * (x.ndim - 2)
    y = _scale_and_shift(y, x, anp.reshape(gamma, per_channel), anp.reshape(beta, per_channel))
    y = silu(y) if activation else y
    return anp.transpose(y, [0, *range(2, x.ndim), 1]) if channels_last else y


@decomposes("SkipGroupNorm")
def _skip_group_norm(
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
    """y and the sum that is normalized. Only for a skip of the shape of x, or (N, 1, 1, C)."""
    if skip.ndim == 2 or not channels_last:
        return (None, None)
    total = x + skip if bias is None else x + bias + skip
    options = {"groups": groups, "activation": activation, "channels_last": channels_last}
    return _group_norm(total, gamma, beta, epsilon=epsilon, **options), total  # type: ignore[return-value]
