"""What is explained: a class, the evidence against it, a contrast of classes, or another number. `TARGETS` is
the table of the kinds of targets besides classes that the modules of this package register.
"""

from onnxcam.registry import import_modules
from onnxcam.targets.kind import TARGETS, TargetKind, find_kind, target_kind
from onnxcam.targets.target import Target

import_modules(__name__, __path__)

__all__ = ["TARGETS", "Target", "TargetKind", "find_kind", "target_kind"]
