"""Gradients integrated over the blur of the image, in float64."""

from __future__ import annotations

from onnxcam.arrays import Maps
from onnxcam.methods.completeness import completeness
from onnxcam.methods.method import method


@method(
    "blur-ig",
    source="Xu et al. 2020, eq. 5",
    sampler="blur-path",
    at="image",
    signed=True,
    report=completeness,
    remedy="use more steps (--set steps=200), or a smaller max_sigma",
)
def blur_ig(gradient_step: Maps) -> Maps:
    """The gradient integrated over the path from a blurred image to the image.

    sum_s dS/dx at x_s, times (x_s - x_s+1) (N, C, H, W), where x_s is the image under a Gaussian whose standard
    deviation grows from 0 to `max_sigma` in equal steps, with zeros around the image. It needs no baseline, as
    the blur removes details at all scales. The attributions add up to S(x) - S(x_n) with many `steps`; how far
    they are from it is reported as `completeness_gap`.
    """
    return gradient_step
