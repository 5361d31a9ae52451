"""Normalisation."""

from __future__ import annotations

from onnxcam.arrays import Floats
from onnxcam.autodiff.ruletable import Rules
from onnxcam.errors import ModelError
from onnxcam.graph.value import Value, np

rules = Rules()


def batch_normalization(
    g: Value,
    y: Value,
    x: Value,
    scale: Value,
    b: Value,
    mean: Value,
    var: Value,
    *,
    epsilon: float,
    training_mode: int | None,
    is_test: int | None,
    spatial: int | None,
) -> Value:
    """g scale / sqrt(var + epsilon), a number a channel; the statistics are those of training."""
    if training_mode or is_test == 0 or spatial == 0:
        raise ModelError(
            f"the BatchNormalization that writes {y.name!r} uses the statistics of its batch: "
            "export the model in inference mode"
        )
    factor = scale.astype(x.dtype) / np.sqrt(var.astype(x.dtype) + epsilon)
    return g * np.reshape(factor, [-1, *([1] * (x.ndim - 2))])


rules.vjp("BatchNormalization", batch_normalization)


def lrn(
    g: Value, y: Value, x: Value, *, size: int, alpha: float, beta: float, bias: float
) -> Value:
    """With D = bias + alpha/n W(x^2), W the sum over a window of n channels and W' its mirror image:
    g D^-beta - 2 alpha beta / n x W'(g x D^(-beta - 1)).
    """
    channels = x.shape[1]
    if not isinstance(channels, int):
        raise ModelError(f"LRN of {x.name!r}: its number of channels must be fixed")
    band = _band(channels, size)
    divisor = bias + (alpha / size) * _over_channels(x * x, band)
    inner = g * x * divisor ** (-beta - 1.0)
    return g * divisor**-beta - (2 * alpha * beta / size) * x * _over_channels(inner, band.T)


def _band(channels: int, size: int) -> Floats:
    """1 where channel j counts for channel i: floor((n-1)/2) before it, ceil((n-1)/2) behind it."""
    apart = np.arange(channels)[None] - np.arange(channels)[:, None]
    return ((apart >= -((size - 1) // 2)) & (apart <= size // 2)).astype(np.float64)


def _over_channels(value: Value, band: Floats) -> Value:
    kernel = value.build.constant(band.reshape(*band.shape, *([1] * (value.ndim - 2))), value.dtype)
    return value.build.op("Conv", value, kernel)


rules.vjp("LRN", lrn)
