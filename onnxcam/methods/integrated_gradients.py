"""Gradients integrated over a path from a baseline to the image, in float64."""

from __future__ import annotations

from onnxcam.arrays import Floats, Maps
from onnxcam.methods.completeness import completeness
from onnxcam.methods.method import method


@method(
    "integrated-gradients",
    source="Sundararajan et al. 2017, eq. 1 and 3",
    sampler="path",
    at="image",
    signed=True,
    report=completeness,
    remedy="use more steps (--set steps=200), or another baseline",
)
def integrated_gradients(image: Maps, baseline: Floats, d1: Maps) -> Maps:
    """The image minus a baseline, times the mean gradient on the line between them.

    (x - b) times the integral of dS/dx at b + t (x - b) over t from 0 to 1 (N, C, H, W). The attributions add
    up to S(x) - S(b); how far they are from it is reported as `completeness_gap`, which shrinks with `steps`.
    The paper approximates the integral by a Riemann sum (eq. 3), which needs more steps than Gauss-Legendre.
    """
    return (image - baseline) * d1
