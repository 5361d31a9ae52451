"""The square of the gradient at the image, averaged over noisy copies, in float64."""

from __future__ import annotations

from onnxcam.arrays import Maps
from onnxcam.methods.method import method


@method(
    "smooth-grad-squared",
    source="Hooker et al. 2019",
    sampler="gaussian",
    at="image",
    channels="sum",
)
def smooth_grad_squared(d2: Maps) -> Maps:
    """The mean square of the gradient at the image over noisy copies; the map is its sum over the channels.

    1/n sum_s (dS/dx)^2 at x + N(0, sigma^2) (N, C, H, W), where sigma is a fraction of max(x) - min(x).
    Gradients of changing sign do not cancel as in `smooth-grad`, and large ones count more.
    """
    return d2
