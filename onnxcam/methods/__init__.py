"""Formulas, samplers and postprocessing, in NumPy only. `METHODS`, `SAMPLERS` and `QUANTITIES` are the tables
of what the modules of this package register.
"""

from onnxcam.methods.composition import choose_method
from onnxcam.methods.method import METHODS, Method, method
from onnxcam.methods.place import ModelView, Place, place
from onnxcam.methods.quantities import QUANTITIES, Quantity, quantity
from onnxcam.methods.samplers import SAMPLERS, CleanRun, Sampler, Samples, sampler
from onnxcam.methods.settings import Setting
from onnxcam.registry import import_modules

import_modules(__name__, __path__)

__all__ = [
    "METHODS",
    "QUANTITIES",
    "SAMPLERS",
    "CleanRun",
    "Method",
    "ModelView",
    "Place",
    "Quantity",
    "Sampler",
    "Samples",
    "Setting",
    "choose_method",
    "method",
    "place",
    "quantity",
    "sampler",
]
