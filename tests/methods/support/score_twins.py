"""Score-CAM and its relatives, and Ablation-CAM, in float64, one feature map and one mask at a time.

A twin takes a model as functions, one image x (C, H, W) and a class, and returns the map (h, w).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from onnxcam.arrays import Floats
from tests.methods.support.image_twins import interpolated

Score = Callable[[Floats], float]


class Scored(Protocol):
    """A classifier with a layer."""

    def logits(self, x: Floats) -> Floats: ...

    def features(self, x: Floats) -> Floats: ...


class Cut(Scored, Protocol):
    """The same, and what is after the layer."""

    def head(self, features: Floats) -> Floats: ...


def mask_of(feature_map: Floats, height: int, width: int) -> Floats | None:
    """Wang et al. 2020, eq. 4 and 5: enlarged to the image, then scaled from 0 to 1; None if it is flat."""
    rows, columns = feature_map.shape
    mask = np.zeros((height, width))
    for i, j in np.ndindex(height, width):
        y, x = (i + 0.5) * rows / height - 0.5, (j + 0.5) * columns / width - 0.5
        mask[i, j] = interpolated(feature_map, y, x)
    low, high = min(mask.ravel()), max(mask.ravel())
    return None if low == high else (mask - low) / (high - low)


def weighted(model: Scored, x: Floats, score: Score) -> Floats:
    """relu(sum_k w_k A_k), w the softmax of the scores of the masks; flat feature maps weigh 0."""
    activation = model.features(x)
    masks = {k: mask_of(a, *x.shape[1:]) for k, a in enumerate(activation)}
    scores = {k: score(mask) for k, mask in masks.items() if mask is not None}
    total = sum(np.exp(number - max(scores.values())) for number in scores.values())
    saliency = np.zeros(activation.shape[1:])
    for k, number in scores.items():
        saliency += np.exp(number - max(scores.values())) / total * activation[k]
    return np.maximum(saliency, 0.0)


def score_cam(model: Scored, x: Floats, target: int) -> Floats:
    """Wang et al. 2020, Score-CAM, eq. 6 to 8: w_k = softmax_k S(x H_k)."""
    return weighted(model, x, lambda mask: float(model.logits(x * mask)[target]))


def ss_cam(model: Scored, x: Floats, target: int, noises: Sequence[Floats]) -> Floats:
    """Wang et al. 2020, SS-CAM: w_k = softmax_k (1/n sum_s S(x (H_k + e_s))), for noise e_s (H, W)."""

    def score(mask: Floats) -> float:
        total = 0.0
        for noise in noises:
            total += model.logits(x * (mask + noise))[target]
        return total / len(noises)

    return weighted(model, x, score)


def is_cam(model: Scored, x: Floats, target: int, steps: int = 10) -> Floats:
    """Naidu et al. 2020: w_k = softmax_k (1/N sum_i S(x (i/N) H_k))."""

    def score(mask: Floats) -> float:
        total = 0.0
        for i in range(1, steps + 1):
            total += model.logits(x * mask * i / steps)[target]
        return total / steps

    return weighted(model, x, score)


def ablation_cam(model: Cut, x: Floats, target: int) -> Floats:
    """Desai and Ramaswamy 2020, eq. 3 and 4: w_k = (S - S without map k) / abs(S)."""
    activation = model.features(x)
    score = float(model.logits(x)[target])
    saliency = np.zeros(activation.shape[1:])
    for k, feature_map in enumerate(activation):
        without = activation.copy()
        without[k] = 0.0
        weight = (score - float(model.head(without)[target])) / abs(score)
        saliency += weight * feature_map
    return np.maximum(saliency, 0.0)
