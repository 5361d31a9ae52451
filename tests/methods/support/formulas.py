"""Formulas of methods, called with the quantities that they take."""

from typing import Any

import numpy as np

from onnxcam.arrays import Floats, Saliency
from onnxcam.methods import METHODS


def feed(shape: tuple[int, ...], seed: int = 0) -> dict[str, Floats]:
    """All quantities that a formula may take: activations and gradients of both signs, and zeros. The sum over
    a feature map is not negative, as after the ReLU of the papers' layers.
    """
    draw = np.random.default_rng([seed, *shape])
    samples = draw.normal(size=(4, *shape)) * (draw.random((4, *shape)) > 0.2)
    samples[:, :, 0, 0, 0] = 0.0
    activation = draw.normal(size=shape) * (draw.random(shape) > 0.3)
    activation *= np.where(activation.sum(axis=(2, 3), keepdims=True) < 0, -1.0, 1.0)
    return {
        "activation": activation,
        "gradient": samples[0],
        "class_weight": draw.normal(size=shape[:2]),
        **{f"d{p}": np.mean(samples**p, axis=0) for p in (1, 2, 3)},
    }


def run(name: str, quantities: dict[str, Floats], **settings: Any) -> Saliency:
    method = METHODS[name]
    return method.formula(**arguments(name, quantities), **settings)


def arguments(name: str, quantities: dict[str, Floats]) -> dict[str, Floats]:
    """Those of the quantities that a method takes."""
    return {quantity: quantities[quantity] for quantity in METHODS[name].quantities}
