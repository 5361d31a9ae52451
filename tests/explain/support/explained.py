"""Explainers of the small nets, and what their maps are compared with."""

from typing import Any

import numpy as np

import onnxcam
from onnxcam.arrays import Floats
from tests.support.nets import CLASSES, Net, random_images

X = random_images(3)


def explainer(net: Net, method: str = "smooth-grad-cam++", **given: Any) -> onnxcam.Explainer:
    given.setdefault("layer", "features")
    return onnxcam.Explainer(net.content(), method, device="cpu", **given)


def same(found: Floats, expected: Floats) -> None:
    """To the rounding of float32 through the runtime."""
    assert found.shape == expected.shape
    assert expected.max() > 0, "a comparison of zeros says nothing"
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5 * float(expected.max()))


def noisy(x: Floats, sigma: float, samples: int, seed: int) -> Floats:
    """The deviates as they are documented: one SFC64 stream a sample, from the seed and its number."""
    streams = [np.random.Generator(np.random.SFC64([seed, s])) for s in range(samples)]
    deviates = np.stack([each.standard_normal(x.shape, dtype=np.float32) for each in streams])
    return x + np.float32(sigma) * deviates


def probes(
    net: Net,
    x: Floats,
    weights: Floats,
    samples: int,
    noise: float,
    seed: int,
    score: str = "logit",
) -> dict[str, Floats]:
    """What the smoothed formula asks for, for one picture x (C, H, W)."""
    copies = noisy(x, noise * (x.max() - x.min()), samples, seed)
    activations = net.features(copies)
    g = net.slope(activations, weights)
    if score == "exp":
        own = net.logits(activations) @ weights
        g = g * np.exp(own - own.max())[:, None, None, None]
    return {
        "activation": net.features(x[None]),
        **{f"d{p}": np.mean(g**p, axis=0)[None] for p in (1, 2, 3)},
    }


def plain(net: Net, x: Floats, weights: Floats) -> dict[str, Floats]:
    activation = net.features(x[None])
    gradient = net.slope(activation, weights)
    return {
        "activation": activation,
        "gradient": gradient,
        "class_weight": gradient.sum(axis=(2, 3)),
    }


def top(net: Net, x: Floats) -> Floats:
    return np.eye(CLASSES)[np.argmax(net.logits(net.features(x[None]))[0])]
