"""The gradient at the image, averaged over noisy copies, in float64."""

from __future__ import annotations

from onnxcam.arrays import Maps
from onnxcam.methods.method import method


@method("smooth-grad", source="Smilkov et al. 2017, section 3", sampler="gaussian", at="image")
def smooth_grad(d1: Maps) -> Maps:
    """The mean gradient at the image over noisy copies; the map is its largest magnitude of all channels.

    1/n sum_s dS/dx at x + N(0, sigma^2) (N, C, H, W), where sigma is a fraction of max(x) - min(x).
    """
    return d1
