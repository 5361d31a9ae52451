"""The gradient at the image, times the image, in float64."""

from __future__ import annotations

from onnxcam.arrays import Maps
from onnxcam.methods.completeness import gap_to_score
from onnxcam.methods.method import method


@method(
    "gradient-x-input",
    source="Shrikumar et al. 2016",
    at="image",
    signed=True,
    report=gap_to_score,
    remedy="biases and curved functions leave a gap: compare the map with that of integrated-gradients",
)
def gradient_x_input(image: Maps, gradient: Maps) -> Maps:
    """The image times the gradient of the score there.

    x dS/dx (N, C, H, W). The attributions of a piecewise linear model without biases add up to S(x), as those
    of epsilon-LRP do; how far they are from it is reported as `completeness_gap`. What is 0 in the preprocessed
    image gets nothing, so the map depends on the preprocessing.
    """
    return image * gradient
