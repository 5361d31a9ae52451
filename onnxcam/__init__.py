"""Where did an exported model look? Smooth Grad-CAM++ and its family for .onnx files."""

from onnxcam import errors
from onnxcam.errors import (
    DeviceError,
    ImageError,
    MissingRuleError,
    ModelError,
    OnnxcamError,
    OutputError,
    RunError,
    SettingError,
    TargetError,
    UnknownNameError,
)
from onnxcam.explain import Explainer
from onnxcam.explanation import Explanation, Picture
from onnxcam.graph.layers import Layer
from onnxcam.graph.model import Model, load
from onnxcam.image.preprocess import PRESETS, Preprocessing
from onnxcam.methods import METHODS, Recipe
from onnxcam.rewrite.augment import augment, gradient
from onnxcam.rewrite.plan import layers

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "PRESETS",
    "DeviceError",
    "Explainer",
    "Explanation",
    "ImageError",
    "Layer",
    "MissingRuleError",
    "Model",
    "ModelError",
    "OnnxcamError",
    "OutputError",
    "Picture",
    "Preprocessing",
    "Recipe",
    "RunError",
    "SettingError",
    "TargetError",
    "UnknownNameError",
    "augment",
    "errors",
    "gradient",
    "layers",
    "load",
]
