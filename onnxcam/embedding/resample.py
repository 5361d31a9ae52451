"""Resampling as products with matrices of weights, which the graph computes from the size of the image.

The weights are those of Pillow (`Resample.c`): a filter that is stretched by the scale, but never made narrower
than a pixel, and divided by the sum of its weights. The operator Resize is not used: OpenVINO ignores its
attribute `antialias`, backends for WebGPU refuse it, and it has no filters but the linear and the cubic one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from onnxcam.embedding.placement import Span, quotient
from onnxcam.graph import anp
from onnxcam.graph.slicing import arange
from onnxcam.graph.tracing import Value

_TINY = 1e-4  # sin(x) / x is 1 there
_EDGE = (
    1e-6  # more than the rounding of a distance: at the edge of a box, all runtimes decide the same
)
_CUBIC = -0.5
_HALF = (
    0.5 + 2.0**-13
)  # more than the rounding of a sum: half a level is rounded upward by all runtimes


class Filter(NamedTuple):
    """A filter: its weights at distances in units of the filter's scale, float32, and how far it reaches.
    One that is not stretched takes single pixels. `overshoots`: it has negative weights.
    """

    reach: int
    weights: Callable[[Value], Value]
    is_stretched: bool = True
    overshoots: bool = False


class Weights(NamedTuple):
    """For blocks of the pixels of the tensor: the first of the pixels of the image that they are sums of, int64
    (blocks,), their number, int64 (1,), and the weights, float32 (blocks, number, pixels of a block).
    """

    first: Value
    number: Value
    matrix: Value


def _box(distance: Value) -> Value:
    is_inside = (distance > -0.5 + _EDGE) & (distance <= 0.5 + _EDGE)
    return is_inside.astype(np.float32)


def _bilinear(distance: Value) -> Value:
    return anp.maximum(1.0 - anp.abs(distance), 0.0)


def _sinc(distance: Value) -> Value:
    angle = anp.maximum(anp.abs(distance), _TINY) * np.pi
    return anp.sin(angle) / angle


def _hamming(distance: Value) -> Value:
    window = anp.cos(distance * np.pi) * 0.46 + 0.54
    return _within(distance, 1.0, _sinc(distance) * window)


def _bicubic(distance: Value) -> Value:
    a, x = _CUBIC, anp.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return anp.where(x < 1.0, near, _within(distance, 2.0, far))


def _lanczos(distance: Value) -> Value:
    return _within(distance, 3.0, _sinc(distance) * _sinc(distance / 3.0))


def _within(distance: Value, reach: float, weights: Value) -> Value:
    return anp.where(anp.abs(distance) < reach, weights, 0.0)


FILTERS = {
    "nearest": Filter(1, _box, is_stretched=False),
    "box": Filter(1, _box),
    "bilinear": Filter(1, _bilinear),
    "hamming": Filter(1, _hamming),
    "bicubic": Filter(2, _bicubic, overshoots=True),
    "lanczos": Filter(3, _lanczos, overshoots=True),
}
"""By the names of `image.preprocess.RESAMPLING`."""


def write_weights(span: Span, kernel: Filter, blocks: int) -> Weights:
    """The weights along one axis. The pixels of the tensor are divided into `blocks` of equal size, so that no
    block reads all of the image; the last repeats its last pixel if the size is no multiple of their number.
    """
    center = _centers(span, blocks)
    stretched = anp.maximum(span.size, span.resized) if kernel.is_stretched else span.resized
    reach = quotient(stretched * kernel.reach + span.resized - 1, span.resized) + 1
    block = -(-span.shown // blocks)
    covered = quotient(span.size * block + span.resized - 1, span.resized)
    number = anp.minimum(covered + reach * 2 + 1, span.size)
    first = anp.maximum(anp.minimum(center.pixel[:, 0] - reach, span.size - number), 0)
    tap = anp.expand_dims(arange(number), 1) + anp.expand_dims(first, (1, 2))
    offset = (tap - anp.expand_dims(center.pixel, 1)).astype(np.float32)
    distance = offset + anp.expand_dims(0.5 - center.fraction, 1)
    if kernel.is_stretched:
        distance = distance * (span.resized.astype(np.float32) / stretched.astype(np.float32))
    weights = kernel.weights(distance)
    return Weights(first, number, weights / anp.sum(weights, axis=1, keepdims=True))


class _Centers(NamedTuple):
    """Where the centers of pixels lie in the image: in which pixel, int64, and where in it, float32 from 0 to
    1. (blocks, pixels of a block).
    """

    pixel: Value
    fraction: Value


def _centers(span: Span, blocks: int) -> _Centers:
    """Padding has the centers of the nearest pixels. An integer and a fraction keep the precision that a
    float32 lacks in the thousands.
    """
    position = np.minimum(np.arange(-(-span.shown // blocks) * blocks), span.shown - 1)
    doubled = (span.start + position.reshape(blocks, -1)) * 2 + 1
    inside = anp.maximum(anp.minimum(doubled, span.resized * 2 - 1), 1)
    dividend, divisor = inside * span.size, span.resized * 2
    pixel = quotient(dividend, divisor)
    remainder = (dividend - pixel * divisor).astype(np.float32)
    return _Centers(pixel, remainder / divisor.astype(np.float32))


def round_levels(values: Value, kernel: Filter) -> Value:
    """Sums of levels rounded as Pillow does, a half upward, and limited to 0 to 255."""
    rounded = anp.floor(values + _HALF)
    return anp.clip(rounded, 0.0, 255.0) if kernel.overshoots else rounded


def split_first(values: Value, parts: int) -> list[Value]:
    """Equal parts along the first axis."""
    attributes: dict[str, Any] = {"num_outputs": parts} if values.build.opset >= 18 else {}
    if parts == 1:
        return [values]
    return list(values.build.ops("Split", values, outputs=parts, axis=0, **attributes))
