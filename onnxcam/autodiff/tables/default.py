"""The gradient."""

from __future__ import annotations

from onnxcam.autodiff.rules import DEFAULT

rules = DEFAULT
