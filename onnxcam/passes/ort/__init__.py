"""Operators of ONNX Runtime's optimizer, decomposed into standard ones when a model is loaded.

A model that was saved optimized (`SessionOptions.optimized_model_filepath`, or the optimizer for transformers)
contains FusedConv, BiasGelu, SkipLayerNormalization and other operators of the domain com.microsoft.
Decomposed, its shapes, layers, scores and gradients are found as in the original model. ONNX Runtime fuses the
standard operators again when it loads the rewritten model.

Every module in this folder adds its rows to the table of `passes.decomposition`. An operator in a form that its
row does not support (an unknown input, attribute or output) stays as it is: a MissingRuleError names it if a
gradient has to pass through it.
"""

import importlib
import pkgutil

from onnxcam.passes.ort.domains import normalize_ort_domains
from onnxcam.passes.ort.registry import refuse_nchwc

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["normalize_ort_domains", "refuse_nchwc"]
