"""The variance of the gradient at the image over noisy copies, in float64."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Maps
from onnxcam.methods.method import method


@method(
    "var-grad",
    source="Adebayo et al. 2018",
    sampler="gaussian",
    at="image",
    channels="sum",
    variance=True,
)
def var_grad(d1: Maps, d2: Maps) -> Maps:
    """The variance of the gradient at the image over noisy copies; the map is its sum over the channels.

    1/n sum_s (g_s - 1/n sum_t g_t)^2 (N, C, H, W), g_s = dS/dx at x + N(0, sigma^2), where sigma is a fraction
    of max(x) - min(x). It is 0 where the score is linear in the image, however large the gradient is.
    """
    return np.maximum(d2 - np.square(d1), 0.0)
