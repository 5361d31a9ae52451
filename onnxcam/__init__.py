"""Where did an exported model look? Smooth Grad-CAM++ and related methods for .onnx files."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from onnxcam import _version, errors
from onnxcam.errors import (
    BlockedError,
    DeviceError,
    ImageError,
    MissingRuleError,
    ModelError,
    NeedsOpsetError,
    NodeError,
    OnnxcamError,
    OutOfMemoryError,
    OutputError,
    RunError,
    SettingError,
    TargetError,
    UnforeseenError,
    UnknownNameError,
)

if TYPE_CHECKING:
    from onnxcam.explain.explainer import Explainer
    from onnxcam.explain.explanation import ExplainedImage, Explanation
    from onnxcam.image.preprocess import PRESETS, Preprocessing
    from onnxcam.methods import METHODS, Method
    from onnxcam.model.load import load
    from onnxcam.model.model import Model
    from onnxcam.rewrite.gradient import augment, gradient
    from onnxcam.rewrite.planner import layers
    from onnxcam.specs import Layer

__version__ = _version.__version__

__all__ = [
    "METHODS",
    "PRESETS",
    "BlockedError",
    "DeviceError",
    "ExplainedImage",
    "Explainer",
    "Explanation",
    "ImageError",
    "Layer",
    "Method",
    "MissingRuleError",
    "Model",
    "ModelError",
    "NeedsOpsetError",
    "NodeError",
    "OnnxcamError",
    "OutOfMemoryError",
    "OutputError",
    "Preprocessing",
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

# imported at first use, with ONNX, ONNX Runtime and NumPy, so that `onnxcam --help` is fast
_HOMES = {
    "onnxcam.explain.explainer": ("Explainer",),
    "onnxcam.explain.explanation": ("Explanation", "ExplainedImage"),
    "onnxcam.specs": ("Layer",),
    "onnxcam.model.load": ("load",),
    "onnxcam.model.model": ("Model",),
    "onnxcam.image.preprocess": ("PRESETS", "Preprocessing"),
    "onnxcam.methods": ("METHODS", "Method"),
    "onnxcam.rewrite.gradient": ("augment", "gradient"),
    "onnxcam.rewrite.planner": ("layers",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'onnxcam' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
