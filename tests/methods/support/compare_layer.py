"""Methods at a layer, also of tokens, compared with their slow twins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import onnxcam
from onnxcam.arrays import Floats
from tests.explain.support.vit import COLUMNS, HEIGHT, WIDTH, Vit
from tests.methods.support.compare import TARGET, Twin, X, assert_close, explain, stack
from tests.support.layered_nets import LayeredNet
from tests.support.nets import random_images

VITS = {
    "one class token": Vit(),
    "three class tokens": Vit(extra=3),
    "cells first": Vit(cells_first=True),
}


@dataclass(frozen=True)
class Tokens:
    """A transformer cut at the normalization `ln`, for one image: its features are the cells, and the class
    token stays, times `others`. The gradient is computed by differences.
    """

    vit: Vit
    x: Floats
    others: float = 1.0

    def features(self, x: Floats) -> Floats:
        return self.vit.grid(self.vit.norm(self.vit.tokens(x)))[0]

    def logits(self, x: Floats) -> Floats:
        return Tokens(self.vit, x).head(self.features(x))

    def head(self, features: Floats) -> Floats:
        tokens = self.vit.tokens(self.x)
        normed = self.others * self.vit.norm(tokens)
        normed[self.vit.cells] = features.reshape(WIDTH, HEIGHT * COLUMNS).T
        return self.vit.logits(self.vit.norm(self.vit.block(tokens, normed)))

    def head_gradient(self, features: Floats, target: int) -> Floats:
        gradient = np.zeros(features.shape)
        for index in np.ndindex(features.shape):
            step = np.zeros(features.shape)
            step[index] = 1e-5
            ahead, back = self.head(features + step), self.head(features - step)
            gradient[index] = (ahead[target] - back[target]) / 2e-5
        return gradient


def assert_layer_map_equals_twin(method: str, net: LayeredNet, twin: Twin, **options: Any) -> None:
    """At the layer of features, for all images."""
    explanation = explain(method, net, layer="features", **options)
    assert_close(explanation.layer_maps, stack(twin, net))


def assert_token_map_equals_twin(method: str, vit: Vit, twin: Twin, **settings: Any) -> None:
    """At the normalization before the attention."""
    images = random_images(2, (3, 4, 6))
    explainer = onnxcam.Explainer(vit.content(), method, layer="ln", device="cpu", **settings)
    expected = [twin(Tokens(vit, x), x, TARGET) for x in images]
    assert_close(explainer(images, TARGET).layer_maps, np.stack(expected))


class Part:
    """A net as if its layer had only a few feature maps and cells: three of the channels, and three rows."""

    channels, region = (0, 2, 3), "1:4,0:4"

    def __init__(self, net: LayeredNet) -> None:
        self.net = net

    def features(self, x: Floats) -> Floats:
        self.complete = self.net.features(x)
        return self._cut(self.complete)

    def head_gradient(self, features: Floats, target: int) -> Floats:
        return self._cut(self.net.head_gradient(self.complete, target))

    def _cut(self, maps: Floats) -> Floats:
        return maps[[*self.channels], 1:4]


def assert_map_of_part_equals_twin(
    method: str, net: LayeredNet, twin: Twin, **options: Any
) -> None:
    """The map of chosen channels in a region, and nothing outside of it."""
    explanation = explain(
        method, net, layer="features", channels=Part.channels, region=Part.region, **options
    )
    expected = np.zeros(explanation.layer_maps.shape)
    expected[:, 1:4] = [twin(Part(net), x, TARGET) for x in X]
    assert_close(explanation.layer_maps, expected)
