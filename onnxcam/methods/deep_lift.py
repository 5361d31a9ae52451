"""Differences from a baseline, followed through the network by the Rescale rule, in float64."""

from __future__ import annotations

from onnxcam.arrays import Floats, Maps
from onnxcam.methods.completeness import completeness
from onnxcam.methods.method import method


def summation_to_delta(
    attributions: Maps, score: Floats, reference_score: Floats
) -> dict[str, Floats]:
    """The completeness of attributions that add up to the difference from the score on the baseline."""
    return completeness(attributions, score, reference_score)


@method(
    "deep-lift",
    source="Shrikumar et al. 2017, eq. 1, 10 to 12",
    sampler="reference",
    rules="deep-lift",
    at="image",
    signed=True,
    report=summation_to_delta,
    remedy="use another baseline, or integrated-gradients",
)
def deep_lift(image: Maps, baseline: Floats, d1: Maps) -> Maps:
    """The image minus a baseline, times the multiplier of DeepLIFT, which replaces the gradient.

    (x - b) m (N, C, H, W), where the multiplier m of a nonlinearity y(x) is (y - y') / (x - x'), with x' and y'
    on the baseline (Rescale); the rule table `deep-lift` has the others. The attributions add up to S(x) - S(b)
    (eq. 1, "summation to delta"); how far they are from it is reported as `completeness_gap`.
    """
    return (image - baseline) * d1
