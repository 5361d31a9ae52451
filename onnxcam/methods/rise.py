"""RISE: masks of random parts of the image, weighted by how probable they leave the target."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats, Maps, Saliency
from onnxcam.methods.method import method


@method("rise", source="Petsiuk et al. 2018, eq. 6", sampler="masks", at="image", relative=True)
def rise(probability_mask: Maps, inverse_probability: Floats) -> Saliency:
    """The mean of random masks, weighted by the target's probability on the masked images; without a gradient.

    relu(1 / (N p) sum_i p_c(x * M_i) M_i) (N, H, W), where p is the probability that a cell is kept. Only a
    contrast of two classes can be negative. Hidden pixels are 0 in the preprocessed tensor, as in the paper,
    unless there is another `baseline`.
    """
    return np.maximum(probability_mask[:, 0], 0.0) * inverse_probability
