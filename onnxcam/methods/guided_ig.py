"""Gradients integrated over a path that avoids large ones, in float64."""

from __future__ import annotations

from onnxcam.arrays import Maps
from onnxcam.methods.completeness import completeness
from onnxcam.methods.method import method


@method(
    "guided-ig",
    source="Kapishnikov et al. 2021, algorithm 1",
    sampler="guided-path",
    at="image",
    signed=True,
    report=completeness,
    remedy="use more steps (--set steps=1000), or another baseline",
)
def guided_ig(gradient_step: Maps) -> Maps:
    """The gradient integrated over a path from a baseline to the image on which small gradients come first.

    sum_s dS/dx at x_s, times (x_s+1 - x_s) (N, C, H, W), where the path x_0 = b, ..., x_n = x moves the pixels
    with the smallest gradients first and stays near the straight line. Large gradients of pixels that do not
    matter for the class, which add noise to `integrated-gradients`, are passed late. The attributions add up to
    S(x) - S(b) with many `steps`; how far they are from it is reported as `completeness_gap`.
    """
    return gradient_step
