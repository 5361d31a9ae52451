"""Where did an exported model look? Smooth Grad-CAM++ and its family for .onnx files."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from onnxcam import errors
from onnxcam.errors import (
    BlockedError,
    DeviceError,
    ImageError,
    MissingRuleError,
    ModelError,
    NodeError,
    OnnxcamError,
    OutputError,
    RunError,
    SettingError,
    TargetError,
    UnforeseenError,
    UnknownNameError,
)

if TYPE_CHECKING:
    from onnxcam.explain import Explainer
    from onnxcam.explanation import Explanation, Picture
    from onnxcam.graph.chosen import Layer
    from onnxcam.graph.model import Model, load
    from onnxcam.image.preprocess import PRESETS, Preprocessing
    from onnxcam.methods import METHODS, Recipe
    from onnxcam.rewrite.augment import augment, gradient
    from onnxcam.rewrite.plan import layers

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "PRESETS",
    "BlockedError",
    "DeviceError",
    "Explainer",
    "Explanation",
    "ImageError",
    "Layer",
    "MissingRuleError",
    "Model",
    "ModelError",
    "NodeError",
    "OnnxcamError",
    "OutputError",
    "Picture",
    "Preprocessing",
    "Recipe",
    "RunError",
    "SettingError",
    "TargetError",
    "UnforeseenError",
    "UnknownNameError",
    "augment",
    "errors",
    "gradient",
    "layers",
    "load",
]

# ONNX Runtime and its kin are loaded when something of theirs is first used: `onnxcam --help` is quick
_HOMES = {
    "onnxcam.explain": ("Explainer",),
    "onnxcam.explanation": ("Explanation", "Picture"),
    "onnxcam.graph.chosen": ("Layer",),
    "onnxcam.graph.model": ("Model", "load"),
    "onnxcam.image.preprocess": ("PRESETS", "Preprocessing"),
    "onnxcam.methods": ("METHODS", "Recipe"),
    "onnxcam.rewrite.augment": ("augment", "gradient"),
    "onnxcam.rewrite.plan": ("layers",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'onnxcam' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
