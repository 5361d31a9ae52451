"""Ablation-CAM: how much the score falls without a feature map."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats, Maps, Saliency
from onnxcam.methods.cam import weighted_sum
from onnxcam.methods.method import method


@method("ablation-cam", source="Desai and Ramaswamy 2020, eq. 3 and 4", sampler="ablated-maps")
def ablation_cam(
    activation: Maps, sample_scores: Floats, unchanged_score: Floats, selected: Floats
) -> Saliency:
    """w_k is the part of the score that is lost without feature map k, without a gradient.

    w_k = (S - S without A_k) / |S|. The paper divides by S, which would turn all signs where S is negative.

    Only the model after the layer is run, and that is the same as running the complete model: what is before
    the layer does not change, and what goes around it (where a layer is no bottleneck) is computed once per
    image. The score S is that of the same part of the model, so that both are rounded alike.
    """
    score = np.expand_dims(unchanged_score, 1)
    size = np.abs(score)
    lost = np.where(selected > 0, score - sample_scores, 0.0) / np.where(size > 0, size, 1.0)
    return weighted_sum(np.expand_dims(lost, (2, 3)), activation)
