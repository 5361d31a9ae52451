"""Methods on the layered nets, compared with their slow twins."""

from collections.abc import Callable
from typing import Any

import numpy as np

import onnxcam
from onnxcam.arrays import Floats
from tests.methods.support import image_twins
from tests.support.layered_nets import CURVED, PIECEWISE, LayeredNet
from tests.support.nets import random_images

X, TARGET = random_images(3), 1
NETS = {"curved": CURVED, "piecewise": PIECEWISE}
TOLERANCE = 1e-4  # of the largest value: the runtime computes in float32
Twin = Callable[..., Floats]
"""Takes a net, an image (C, H, W) and a class."""


def explain(method: str, net: LayeredNet, **options: Any) -> onnxcam.Explanation:
    explainer = onnxcam.Explainer(net.content(), method, device="cpu", cache=False, **options)
    return explainer(X, TARGET)


def stack(twin: Twin, net: LayeredNet, *arguments: Any) -> Floats:
    """The twin's results for all images."""
    return np.stack([twin(net, x, TARGET, *arguments) for x in X])


def assert_close(actual: Floats | None, expected: Floats) -> None:
    """Equal up to the rounding of float32 in the runtime."""
    assert actual is not None
    assert actual.shape == expected.shape
    assert np.abs(expected).max() > 0, "a comparison of zeros proves nothing"
    assert np.abs(actual - expected).max() <= TOLERANCE * np.abs(expected).max()


def assert_attributions(explanation: onnxcam.Explanation, expected: Floats) -> None:
    """Equal attributions (N, C, H, W), and the maps that follow from them."""
    assert_close(explanation.attributions, expected)
    join = image_twins.total if explanation.signed else image_twins.largest
    assert_close(explanation.maps, np.stack([join(attributions) for attributions in expected]))
