"""Gradients averaged over random points between baselines and noisy copies of the image, in float64."""

from __future__ import annotations

from onnxcam.arrays import Floats, Maps
from onnxcam.methods.completeness import completeness
from onnxcam.methods.method import method


def mean_completeness(
    attributions: Maps, noisy_score: Floats, baseline_score: Floats
) -> dict[str, Floats]:
    """The completeness of attributions that add up to a difference of mean scores."""
    return completeness(attributions, noisy_score, baseline_score)


@method(
    "gradient-shap",
    source="Lundberg and Lee 2017",
    sampler="random-path",
    at="image",
    signed=True,
    report=mean_completeness,
    remedy="use more samples (--set samples=500), or less noise",
)
def gradient_shap(gradient_step: Maps) -> Maps:
    """The noisy image minus a baseline, times the gradient at a random point between them, on average.

    1/n sum_s (x_s - b_s) dS/dx at b_s + t_s (x_s - b_s) (N, C, H, W), with x_s = x + noise, b_s a random
    baseline, and t_s uniform on [0, 1]: an estimate of Shapley values, if the model is about linear and pixels
    are independent. The attributions add up to the mean of S(x_s) - S(b_s) with many `samples`; how far they
    are from it is reported as `completeness_gap`. Without noise and with one baseline, the expectation is that
    of `integrated-gradients`.
    """
    return gradient_step
