"""One run on the image itself."""

from onnxcam.methods.samplers.sampler import SAMPLERS, Sampler

SAMPLERS.add("once", Sampler("once", "the model once, on the image"))
