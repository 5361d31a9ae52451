"""Images that are unusual for the shapes model: foreign objects, noise, attacks, and no content at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import onnxcam
from scripts.shapes.drawing import draw

Pixels = NDArray[np.float32]  # (N, 3, S, S) RGB in [0, 1]


def clean_images(seed: int, count: int) -> Pixels:
    """Images as the model was trained on."""
    rng = np.random.default_rng(seed)
    pixels = np.stack([draw(rng).pixels for _ in range(count)])
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def insert_discs(images: Pixels, seed: int) -> tuple[Pixels, NDArray[np.bool_]]:
    """Images with a disc of a fine magenta and green checkerboard, which no object has, and where it is."""
    rng, changed = np.random.default_rng(seed), images.copy()
    size = images.shape[-1]
    masks = np.zeros((len(images), size, size), bool)
    y, x = np.mgrid[:size, :size]
    check = (y // 2 + x // 2) % 2
    checkers = np.stack([check, 1 - check, check]).astype(np.float32)
    for image, mask in zip(changed, masks, strict=True):
        radius = rng.uniform(0.1, 0.15) * size
        top, left = rng.uniform(radius, size - radius, 2)
        mask[:] = np.hypot(y - top, x - left) < radius
        image[:, mask] = checkers[:, mask]
    return changed, masks


def add_noise(images: Pixels, seed: int, deviation: float) -> Pixels:
    """Images with Gaussian noise."""
    noise = np.random.default_rng(seed).normal(0, deviation, images.shape)
    return np.clip(images + noise, 0, 1).astype(np.float32)


def attack(model: Path, images: Pixels, step: float) -> Pixels:
    """Images that were changed by a step against the class that the model gives them: the fast gradient sign
    method (Goodfellow et al. 2015), with the gradient of the logit.
    """
    explainer = onnxcam.Explainer(model, "saliency", device="cpu")
    gradients: Any = explainer(images, target="top1").attributions
    return np.clip(images - step * np.sign(gradients), 0, 1).astype(np.float32)


def random_pixels(images: Pixels, seed: int) -> Pixels:
    """No image at all: independent pixels."""
    return np.random.default_rng(seed).random(images.shape, np.float32)


def plain_colors(images: Pixels, seed: int) -> Pixels:
    """Images of nothing: one color each."""
    colors = np.random.default_rng(seed).random((len(images), 3, 1, 1), np.float32)
    return np.broadcast_to(colors, images.shape).copy()
