"""Experimental operators that ONNX has dropped, and ONNX Runtime runs below opset 10: converters for Windows ML
(WinMLTools, coremltools) wrote them to scale and crop the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxcam.graph import anp
from onnxcam.graph.slicing import slice_axes
from onnxcam.graph.tracing import Value
from onnxcam.passes.ort.registry import decomposes

ROWS_AND_COLUMNS = [2, 3]
END = np.iinfo(np.int32).max  # of an axis whose size is unknown


@decomposes("ImageScaler")
def _image_scaler(x: Value, *, bias: Sequence[float], scale: float = 1.0) -> Value:
    """One number per channel is added to the scaled image (N, C, H, W)."""
    return x * scale + np.reshape(np.asarray(bias, np.float32), (-1, 1, 1))


@decomposes("Crop")
def _crop(x: Value, *, border: Sequence[int], scale: Sequence[int] = ()) -> Value:
    """Cut off `border` (left, top, right, bottom), or what is beyond `scale` (height, width) if it is there."""
    left, top, right, bottom = border
    ends = [start + size for start, size in zip((top, left), scale, strict=False)]
    ends = ends or [-size or END for size in (bottom, right)]
    return slice_axes(x, [top, left], ends, ROWS_AND_COLUMNS)


@decomposes("Affine")
def _affine(x: Value, *, alpha: float = 1.0, beta: float = 0.0) -> Value:
    return x * alpha + beta


@decomposes("Scale")
def _scale(x: Value, *, scale: float = 1.0) -> Value:
    return x * scale


@decomposes("ScaledTanh")
def _scaled_tanh(x: Value, *, alpha: float, beta: float) -> Value:
    return alpha * anp.tanh(x * beta)


@decomposes("ParametricSoftplus")
def _parametric_softplus(x: Value, *, alpha: float, beta: float) -> Value:
    return alpha * x.build.op("Softplus", x * beta)


@decomposes("ThresholdedRelu")
def _thresholded_relu(x: Value, *, alpha: float = 1.0) -> Value:
    return anp.where(x > alpha, x, 0.0)


@decomposes("MeanVarianceNormalization")
def _mean_variance_normalization(
    x: Value, *, across_channels: int = 0, normalize_variance: int = 1
) -> Value:
    """Over the images, rows and columns, and over the channels if `across_channels`."""
    axes = (0, *range(1 if across_channels else 2, x.ndim))
    centered = x - anp.mean(x, axis=axes, keepdims=True)
    if not normalize_variance:
        return centered
    deviation = anp.sqrt(anp.mean(centered * centered, axis=axes, keepdims=True))
    return centered / (deviation + 1e-9)
