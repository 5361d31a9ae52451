"""Formulas, samplers and postprocessing, in NumPy only. `METHODS` is the table of all methods: those that the
modules of this package register.
"""

import importlib
import pkgutil

from onnxcam.methods.method import Method
from onnxcam.methods.method import methods as METHODS  # noqa: N812  a table, not a function
from onnxcam.methods.samplers.sampler import Sampler
from onnxcam.methods.settings import Setting

DEFAULT_METHOD = "smooth-grad-cam++"

for _module in pkgutil.iter_modules(__path__):
    if not (_module.ispkg or _module.name.startswith("_")):
        importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["DEFAULT_METHOD", "METHODS", "Method", "Sampler", "Setting"]
