"""Layers that are spread over the depth of a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxcam.ascent.opened_model import OpenedModel
from onnxcam.errors import ModelError
from onnxcam.explain.arguments import LayerSource, layer_names
from onnxcam.graph.reachability import is_float
from onnxcam.spatial.layer_names import find_layers
from onnxcam.spatial.layers import candidates, completed
from onnxcam.specs import AUTO, Layer

COUNT = 5


def choose_names(opened: OpenedModel, layer: LayerSource) -> list[str]:
    """The tensors that a user names: layers, or any tensor of floats by its exact name. "auto" is five layers
    from the first to the last, of those that everything passes through if there are enough of them.
    """
    texts, tensors = layer_names(layer), opened.model.graph.tensors()
    if texts == (AUTO,):
        return [chosen.name for chosen in _spread(opened)]
    layers, names = opened.layers, list[str]()
    for text in texts:
        if text in tensors and is_float(tensors[text]):
            names.append(text)
        else:
            names += [chosen.name for chosen in find_layers(layers, [text])]
    return [*dict.fromkeys(names)]


def _spread(opened: OpenedModel) -> Sequence[Layer]:
    layers = _without_images(opened, opened.layers)
    usable = candidates(opened.model, layers)[::-1]
    if len(usable) < COUNT:
        usable = completed(opened.model, layers) or layers
    if not usable:
        raise ModelError(
            f"{opened.model.name}: has no layer with cells; name a tensor with --layer"
        )
    places = np.linspace(0, len(usable) - 1, min(COUNT, len(usable)))
    return [usable[place] for place in np.rint(places).astype(int)]


def _without_images(opened: OpenedModel, layers: Sequence[Layer]) -> list[Layer]:
    """The layers without those with the channels of the image, which is only normalized there, or its axes are
    moved; all layers if there are no others.
    """
    features = [layer for layer in layers if layer.channels != opened.range.channels]
    return features or [*layers]
