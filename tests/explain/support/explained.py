"""Explainers of the small nets, and the expected quantities of formulas in NumPy."""

from typing import Any

import numpy as np

import onnxcam
from onnxcam.arrays import Floats
from tests.support.nets import CLASSES, Net, random_images

X = random_images(3)


def make_explainer(
    net: Net, method: str = "smooth-grad-cam++", **options: Any
) -> onnxcam.Explainer:
    options.setdefault("layer", "features")
    return onnxcam.Explainer(net.content(), method, device="cpu", **options)


def assert_same_map(actual: Floats, expected: Floats) -> None:
    """Equal up to the rounding of float32 in the runtime."""
    assert actual.shape == expected.shape
    assert expected.max() > 0, "a comparison of zeros proves nothing"
    np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=2e-5 * float(expected.max()))


def noisy(x: Floats, sigma: float, samples: int, seed: int) -> Floats:
    """Noisy copies as documented: one SFC64 stream per sample, from the seed and the sample's number."""
    streams = [np.random.Generator(np.random.SFC64([seed, s])) for s in range(samples)]
    noise = np.stack([stream.standard_normal(x.shape, dtype=np.float32) for stream in streams])
    return x + np.float32(sigma) * noise


def smoothed_quantities(
    net: Net,
    x: Floats,
    weights: Floats,
    samples: int,
    noise: float,
    seed: int,
    score: str = "logit",
) -> dict[str, Floats]:
    """The quantities of smooth-grad-cam++ for one image x (C, H, W)."""
    copies = noisy(x, noise * (x.max() - x.min()), samples, seed)
    activations = net.features(copies)
    g = net.slope(activations, weights)
    if score == "exp":
        scores = net.logits(activations) @ weights
        g = g * np.exp(scores - scores.max())[:, None, None, None]
    return {
        "activation": net.features(x[None]),
        **{f"d{p}": np.mean(g**p, axis=0)[None] for p in (1, 2, 3)},
    }


def clean_quantities(net: Net, x: Floats, weights: Floats) -> dict[str, Floats]:
    activation = net.features(x[None])
    gradient = net.slope(activation, weights)
    return {"activation": activation, "gradient": gradient}


def top_class_weights(net: Net, x: Floats) -> Floats:
    return np.eye(CLASSES)[np.argmax(net.logits(net.features(x[None]))[0])]
