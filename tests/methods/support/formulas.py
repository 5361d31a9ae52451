"""Formulas of methods, called with the arguments that they ask for."""

from typing import Any

import numpy as np

from onnxcam.arrays import Floats, Saliency
from onnxcam.methods import METHODS


def feed(shape: tuple[int, ...], seed: int = 0) -> dict[str, Floats]:
    """Everything that a formula may ask for; activations and gradients of both signs, and zeros. The sum
    over a feature map is not negative, as behind the ReLU of the papers' layers.
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


def run(name: str, given: dict[str, Floats], **chosen: Any) -> Saliency:
    recipe = METHODS[name]
    return recipe.formula(**{each: given[each] for each in recipe.probes}, **chosen)
