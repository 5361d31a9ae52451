"""Values standardized over some axes, s = f (x - m), and the gradient through m and f.

Layer, RMS, instance, group and mean-variance normalization are this, followed by a scale and a bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnxcam.arrays import FLOAT32
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value


def to_float32(value: Value) -> Value:
    """Floats narrower than float32 as float32, in which the operators compute their statistics, too."""
    is_narrow = isinstance(value.dtype, int) or value.dtype.itemsize < FLOAT32.itemsize
    return value.astype(FLOAT32) if is_narrow else value


def mean_over(value: Value, axes: Sequence[int]) -> Value:
    """The mean over some axes, which stay with size 1."""
    return anp.mean(value, axis=axes, keepdims=True)


@dataclass(frozen=True)
class Standardization:
    """s = f (x - m), where the factor f gives s a mean square of 1 over `axes`."""

    s: Value
    factor: Value
    axes: Sequence[int]
    centered: bool = True  # whether m is the mean of x; otherwise m is 0

    @classmethod
    def compute(
        cls, x: Value, axes: Sequence[int], epsilon: float, *, centered: bool = True
    ) -> Standardization:
        """f = 1 / sqrt(mean (x - m)^2 + epsilon), with m computed first, so that no digits are lost."""
        x = to_float32(x)
        centered_x = x - mean_over(x, axes) if centered else x
        factor = 1.0 / anp.sqrt(mean_over(centered_x * centered_x, axes) + epsilon)
        return cls(centered_x * factor, factor, axes, centered)

    def vjp(self, h: Value) -> Value:
        """The cotangent of x, given the cotangent h of s: f (h - mean h - s mean(h s))."""
        centered_h = h - mean_over(h, self.axes) if self.centered else h
        return self.factor * (centered_h - self.s * mean_over(h * self.s, self.axes))
