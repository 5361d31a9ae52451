"""The mean activation of a layer: where the model responds to anything at all, whatever the class."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Maps, Saliency
from onnxcam.methods.method import method


@method("activation-map", source="OpenVINO XAI 1.1, ActivationMap")
def activation_map(activation: Maps) -> Saliency:
    """The mean of the feature maps, without a target and without a gradient.

    L = relu(mean_k A_k).
    """
    return np.maximum(np.mean(activation, axis=1), 0.0)
