"""For every method a small model that it explains, and settings with which it is quick."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

import onnxcam
from onnxcam.errors import OnnxcamError
from onnxcam.methods import METHODS
from onnxcam.methods.settings import Setting
from tests.explain.support.vit import Vit
from tests.support.nets import DEEP, POOLED, random_images

SAMPLES = 5


@dataclass(frozen=True)
class SmallNet:
    """A model file, the shape of its images (C, H, W), and the name of the weights of its scores."""

    content: bytes
    shape: tuple[int, int, int]
    head: str

    def images(self, count: int) -> Any:
        return random_images(count, self.shape)

    @property
    def without_evidence(self) -> bytes:
        """The same model with scores that do not depend on the image."""
        proto = onnx.load_from_string(self.content)
        (weights,) = (tensor for tensor in proto.graph.initializer if tensor.name == self.head)
        zeros = np.zeros_like(numpy_helper.to_array(weights))
        weights.CopyFrom(numpy_helper.from_array(zeros, weights.name))
        return bytes(proto.SerializeToString())


NETS = {
    "convolutional": SmallNet(DEEP.content(), (3, 8, 8), "v"),
    "pooled": SmallNet(POOLED.content(), (3, 8, 8), "v"),
    "tokens": SmallNet(Vit().content(), (3, 4, 6), "head"),
}


@cache
def net_of(method: str) -> SmallNet:
    """The first model that a method does not refuse. AssertionError with its reasons if it refuses all."""
    refusals = {}
    for name, net in NETS.items():
        try:
            make_explainer(method, net.content)(net.images(1), 1)
        except OnnxcamError as error:
            refusals[name] = str(error)
        else:
            return net
    raise AssertionError(f"{method} explains no model: {refusals}")


def make_explainer(method: str, content: bytes, **options: Any) -> onnxcam.Explainer:
    """With few samples."""
    return onnxcam.Explainer(content, method, device="cpu", **few_samples(method), **options)


def few_samples(method: str) -> dict[str, Any]:
    """The setting that holds the number of samples, if there is one."""
    counts = METHODS[method].sampler.counts
    return {counts: SAMPLES} if counts else {}


def other_settings(method: str) -> dict[str, Any]:
    """Every setting with a value that is not its default, if one can be known."""
    others = {name: _other_value(setting) for name, setting in METHODS[method].settings.items()}
    return {name: value for name, value in others.items() if value is not None} | few_samples(
        method
    )


def _other_value(setting: Setting) -> Any:
    default = setting.default
    if setting.choices:
        return next(choice for choice in setting.choices if choice != default)
    if isinstance(default, str) or (setting.check and default is None):
        return None  # only the setting itself knows what it takes
    if default is None:
        return 0.5
    return next(
        number
        for number in (default + 1, default - 1, default / 2)
        if setting.lowest <= number <= setting.highest
    )
