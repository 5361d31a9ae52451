"""The cubic convolution kernel of Keys (1981, doi:10.1109/TASSP.1981.1163711), for arrays and Values.

d is the distance from a cell, a the slope at distance 1.
"""

from __future__ import annotations

from typing import TypeVar

from onnxcam.arrays import Floats
from onnxcam.graph.tracing import Value

KEYS_A = -0.75  # in torch, and the default in ONNX; Keys has -0.5
Distance = TypeVar("Distance", Value, Floats)


def cubic_near(d: Distance, a: float) -> Distance:
    """The weight for 0 <= d <= 1: (a + 2) d^3 - (a + 3) d^2 + 1."""
    return ((a + 2) * d - (a + 3)) * d * d + 1.0


def cubic_far(d: Distance, a: float) -> Distance:
    """The weight for 1 <= d <= 2: a d^3 - 5 a d^2 + 8 a d - 4 a."""
    return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a


def cubic_near_slope(d: Distance, a: float) -> Distance:
    """The derivative of `cubic_near` with respect to d."""
    return (3 * (a + 2) * d - 2 * (a + 3)) * d


def cubic_far_slope(d: Distance, a: float) -> Distance:
    """The derivative of `cubic_far` with respect to d."""
    return (3 * a * d - 10 * a) * d + 8 * a
