"""Maps of a layer by OpenVINO XAI, which explains the exported file in OpenVINO's runtime."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import torch

from onnxcam.arrays import Floats
from scripts.openvino_precision import compiled_in_float32
from scripts.parity.peer_nets import Case


def layer_maps(name: str, case: Case, **options: Any) -> Floats:
    """What one of its methods returns for every image at the layer. In transformers it finds the normalization
    before the last attention itself.
    """
    model = import_module("openvino").Core().read_model(str(case.path))
    written = {
        tensor: node.get_friendly_name()
        for node in model.get_ops()
        for output in node.outputs()
        for tensor in output.get_names()
    }
    if not case.grid:
        options["target_layer"] = written[case.layer]
    make = getattr(import_module("openvino_xai.methods"), name)
    with compiled_in_float32():
        method = make(model, embed_scaling=False, **options)
    return np.concatenate([method.generate_saliency_map(image[None]) for image in case.x])


def activation_map(case: Case, settings: dict[str, Any]) -> Floats:
    """With its negative values, which are none after ReLU."""
    return np.maximum(layer_maps("ActivationMap", case), 0)


def recipro_cam(case: Case, settings: dict[str, Any]) -> Floats:
    """Of the logits that it returns for every class, the probability of the target."""
    options = {"use_gaussian": settings["kernel"] == "gaussian"} if case.grid else {}
    name = "ViTReciproCAM" if case.grid else "ReciproCAM"
    logits = torch.from_numpy(layer_maps(name, case, **options))
    probabilities: Floats = torch.softmax(logits, 1)[:, case.target].numpy()
    return probabilities
