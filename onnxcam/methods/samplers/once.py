"""One run on the image itself."""

from onnxcam.methods.samplers.sampler import Sampler

ONCE = Sampler("once", "the model once, on the image", {})
