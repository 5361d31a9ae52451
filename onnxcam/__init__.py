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
    OnnxcamNotice,
    OutOfMemoryError,
    OutputError,
    PlaceError,
    RunError,
    SettingError,
    TargetError,
    UnforeseenError,
    UnknownNameError,
)

if TYPE_CHECKING:
    from onnxcam.ascent.invert import Inversion, invert
    from onnxcam.ascent.visualize import Visualization, visualize
    from onnxcam.autodiff.rule_table import Rules
    from onnxcam.autodiff.tables import RULE_TABLES
    from onnxcam.concept_maps.concepts import Concepts
    from onnxcam.concept_maps.find import concepts
    from onnxcam.embedding.write import EmbeddedModel, embed
    from onnxcam.explain.compare import compare
    from onnxcam.explain.compared_map import ComparedMap
    from onnxcam.explain.comparison import Comparison
    from onnxcam.explain.explainer import Explainer
    from onnxcam.explain.explanation import ExplainedImage, Explanation
    from onnxcam.image.preprocess import PRESETS, Preprocessing
    from onnxcam.methods import (
        METHODS,
        CleanRun,
        Method,
        ModelView,
        Place,
        Samples,
        method,
        place,
        quantity,
        sampler,
    )
    from onnxcam.model.load import load
    from onnxcam.model.model import Model
    from onnxcam.rewrite.gradient import augment, gradient
    from onnxcam.rewrite.planner import layers
    from onnxcam.scanning.scan import Scan, scan
    from onnxcam.scanning.scanned_image import ScannedImage
    from onnxcam.scanning.scanner import Scanner
    from onnxcam.specs import Layer
    from onnxcam.targets import Target, target_kind

__version__ = _version.__version__

__all__ = [
    "METHODS",
    "PRESETS",
    "RULE_TABLES",
    "BlockedError",
    "CleanRun",
    "ComparedMap",
    "Comparison",
    "Concepts",
    "DeviceError",
    "EmbeddedModel",
    "ExplainedImage",
    "Explainer",
    "Explanation",
    "ImageError",
    "Inversion",
    "Layer",
    "Method",
    "MissingRuleError",
    "Model",
    "ModelError",
    "ModelView",
    "NeedsOpsetError",
    "NodeError",
    "OnnxcamError",
    "OnnxcamNotice",
    "OutOfMemoryError",
    "OutputError",
    "Place",
    "PlaceError",
    "Preprocessing",
    "Rules",
    "RunError",
    "Samples",
    "Scan",
    "ScannedImage",
    "Scanner",
    "SettingError",
    "Target",
    "TargetError",
    "UnforeseenError",
    "UnknownNameError",
    "Visualization",
    "augment",
    "compare",
    "concepts",
    "embed",
    "errors",
    "gradient",
    "invert",
    "layers",
    "load",
    "method",
    "place",
    "quantity",
    "sampler",
    "scan",
    "target_kind",
    "visualize",
]

# imported at first use, with ONNX, ONNX Runtime and NumPy, so that `onnxcam --help` is fast
_HOMES = {
    "onnxcam.ascent.invert": ("Inversion", "invert"),
    "onnxcam.ascent.visualize": ("Visualization", "visualize"),
    "onnxcam.concept_maps.concepts": ("Concepts",),
    "onnxcam.concept_maps.find": ("concepts",),
    "onnxcam.embedding.write": ("EmbeddedModel", "embed"),
    "onnxcam.explain.compare": ("compare",),
    "onnxcam.explain.compared_map": ("ComparedMap",),
    "onnxcam.explain.comparison": ("Comparison",),
    "onnxcam.explain.explainer": ("Explainer",),
    "onnxcam.explain.explanation": ("Explanation", "ExplainedImage"),
    "onnxcam.specs": ("Layer",),
    "onnxcam.model.load": ("load",),
    "onnxcam.model.model": ("Model",),
    "onnxcam.image.preprocess": ("PRESETS", "Preprocessing"),
    "onnxcam.methods": (
        "METHODS",
        "CleanRun",
        "Method",
        "ModelView",
        "Place",
        "Samples",
        "method",
        "place",
        "quantity",
        "sampler",
    ),
    "onnxcam.targets": ("Target", "target_kind"),
    "onnxcam.autodiff.rule_table": ("Rules",),
    "onnxcam.autodiff.tables": ("RULE_TABLES",),
    "onnxcam.rewrite.gradient": ("augment", "gradient"),
    "onnxcam.rewrite.planner": ("layers",),
    "onnxcam.scanning.scan": ("Scan", "scan"),
    "onnxcam.scanning.scanned_image": ("ScannedImage",),
    "onnxcam.scanning.scanner": ("Scanner",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'onnxcam' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
