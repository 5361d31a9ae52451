"""The inputs on which methods run the model: the image itself, noisy or masked copies of it, paths to it, or
changed activations. `SAMPLERS` is the table of those that the modules of this package register.
"""

from onnxcam.methods.samplers.sampler import SAMPLERS, CleanRun, Sampler, Samples, sampler
from onnxcam.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["SAMPLERS", "CleanRun", "Sampler", "Samples", "sampler"]
