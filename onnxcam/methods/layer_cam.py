"""LayerCAM: a weight for every cell of every feature map, not one for each map."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Maps, Saliency
from onnxcam.methods.cam import weighted_sum
from onnxcam.methods.method import method


@method("layer-cam", source="Jiang et al. 2021, eq. 6 to 8")
def layer_cam(activation: Maps, gradient: Maps) -> Saliency:
    """Every cell is weighted by its own positive gradient, so that early layers give fine maps.

    L = relu(sum_k relu(g_k) A_k) (eq. 7 and 8).
    """
    return weighted_sum(np.maximum(gradient, 0.0), activation)
