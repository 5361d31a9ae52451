"""Score-CAM and its relatives: feature maps are weighted by the score of the image that they show, which needs
no gradient.

H_k is the feature map A_k, enlarged to the image x and scaled from 0 to 1. The baseline of the papers, whose
score is subtracted from all others, cancels in the softmax and is not run.
"""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats, Maps, Saliency
from onnxcam.methods.cam import weighted_sum
from onnxcam.methods.method import method


def weighted_by_scores(activation: Maps, sample_scores: Floats, selected: Floats) -> Saliency:
    """relu(sum_k w_k A_k), w the softmax of the mean scores of the feature maps; of those that are `selected`
    (N, C), the others weigh 0. The samples (N, C n) are n for each feature map.
    """
    scores = np.mean(np.reshape(sample_scores, (*selected.shape, -1)), axis=2)
    is_selected = selected > 0
    candidates = np.where(is_selected, scores, np.min(scores, axis=1, keepdims=True))
    powers = np.exp(candidates - np.max(candidates, axis=1, keepdims=True)) * selected
    total = np.sum(powers, axis=1, keepdims=True)
    weight = powers / np.where(total > 0, total, 1.0)
    return weighted_sum(np.expand_dims(weight, (2, 3)), activation)


@method(
    "score-cam", source="Wang et al. 2020, arXiv:1910.01279, eq. 3 to 6", sampler="activation-masks"
)
def score_cam(activation: Maps, sample_scores: Floats, selected: Floats) -> Saliency:
    """w_k is the softmax of the score of the image under feature map k, without a gradient.

    w_k = softmax_k S(x H_k), 0 for flat feature maps. The complete model is run for every feature map: masks
    change the image, so that no part of the model computes the same for two of them.
    """
    return weighted_by_scores(activation, sample_scores, selected)


@method("ss-cam", source="Wang et al. 2020, arXiv:2006.14255", sampler="noisy-activation-masks")
def ss_cam(activation: Maps, sample_scores: Floats, selected: Floats) -> Saliency:
    """Score-CAM with noise on its masks: w_k is the softmax of the mean score over noisy masks.

    w_k = softmax_k (1/n sum_s S(x (H_k + e_s))), e_s Gaussian noise of standard deviation `sigma`.
    """
    return weighted_by_scores(activation, sample_scores, selected)


@method("is-cam", source="Naidu et al. 2020, arXiv:2010.03023", sampler="fading-activation-masks")
def is_cam(activation: Maps, sample_scores: Floats, selected: Floats) -> Saliency:
    """Score-CAM integrated over its masks: w_k is the softmax of the mean score over i / N of the mask.

    w_k = softmax_k (1/N sum_i S(x (i/N) H_k)), i = 1 to N.
    """
    return weighted_by_scores(activation, sample_scores, selected)
