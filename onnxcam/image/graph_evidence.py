"""What the graph of a model reveals about its images, as keys beside its metadata: evidence, not a description.

`model/image_evidence.py` writes these keys when a model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from onnxcam.image.preprocess import PRESETS, Preprocessing

PREFIX = "onnxcam.evidence."  # of keys that are no metadata of the file
PRESET, ORDER, REASON = f"{PREFIX}preset", f"{PREFIX}order", f"{PREFIX}reason"


class Application(NamedTuple):
    """A family of models of `keras.applications`: names of layers that only it has, and the preset that its
    `preprocess_input` is.
    """

    name: str
    layers: frozenset[str]
    preset: str


# The first whose layers all occur. Source: keras/src/applications/*.py
APPLICATIONS = (
    Application("VGG", frozenset({"block1_conv1", "block5_conv3"}), "caffe"),
    Application("ResNet V2", frozenset({"conv2_block1_preact_bn", "post_bn"}), "tf"),
    Application("ResNet", frozenset({"conv2_block1_0_conv", "conv2_block1_3_conv"}), "caffe"),
    Application("DenseNet", frozenset({"pool2_conv", "pool3_conv"}), "imagenet"),
    Application("MobileNet", frozenset({"conv_dw_1", "conv_pw_13"}), "tf"),
    Application("MobileNetV2", frozenset({"expanded_conv_depthwise", "block_1_expand"}), "tf"),
    Application("InceptionV3", frozenset({"mixed0", "mixed8", "mixed10"}), "tf"),
    Application("Inception-ResNet", frozenset({"block17_1_conv", "conv_7b"}), "tf"),
    Application("Xception", frozenset({"block14_sepconv1", "block14_sepconv2"}), "tf"),
    Application("NASNet", frozenset({"stem_conv1", "normal_conv_1_0"}), "tf"),
    Application(
        "EfficientNet", frozenset({"stem_conv", "block1a_project_conv", "top_conv"}), "raw"
    ),
)


def without_evidence(metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata of the file alone."""
    return {key: value for key, value in metadata.items() if not key.startswith(PREFIX)}


def application_of(names: Iterable[str]) -> Application | None:
    """The family of `keras.applications` that has these layers; None if none has."""
    layers = frozenset(names)
    return next((family for family in APPLICATIONS if family.layers <= layers), None)


def from_evidence(metadata: Mapping[str, str]) -> tuple[Preprocessing, str] | None:
    """The preprocessing that the evidence suggests, and the reason; None without evidence."""
    preset = metadata.get(PRESET, "")
    if preset not in PRESETS:
        return None
    # evidence is about pixels; as usual, the center of the image is assumed to be shown
    preprocessing = replace(PRESETS[preset], fit="crop")
    if metadata.get(ORDER) == "bgr":
        preprocessing = replace(preprocessing, order="bgr")
    return preprocessing, f"the preset {preset}: {metadata.get(REASON, '')}"
