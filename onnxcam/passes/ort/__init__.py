"""Operators that ONNX Runtime's optimiser writes, taken apart into the standard ones that they stand for.

A model that was saved optimised (`SessionOptions.optimized_model_filepath`, or the optimiser for
transformers) computes with FusedConv, BiasGelu, SkipLayerNormalization and their like of the domain
com.microsoft. They are taken apart when the model is read, so that shapes, layers, scores and gradients
are found as in the model they were made of; the runtime fuses them again when it loads what is written.

FUSED holds every operator of the files beside this one. One in a form that its function does not know
(an input, attribute or output more, or None returned) is left as it is: a MissingRuleError names it where a
gradient should flow through it.
"""

import importlib
import pkgutil

from onnxcam.passes.ort.domains import normalize_ort_domains
from onnxcam.passes.ort.registry import FUSED, decompose

for _each in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_each.name}")

__all__ = ["FUSED", "decompose", "normalize_ort_domains"]
