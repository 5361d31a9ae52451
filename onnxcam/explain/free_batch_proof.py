"""Models of a fixed batch, freed of it where that is proven by running both."""

from __future__ import annotations

from dataclasses import replace

from onnxcam.errors import ModelError
from onnxcam.model.free_batch import free_batch
from onnxcam.model.image_input import image_input
from onnxcam.model.model import Model
from onnxcam.runtime.batch_independence import samples_are_independent
from onnxcam.runtime.device import device
from onnxcam.runtime.session import Session
from onnxcam.specs import ImageInput


def free_batch_if_proven(model: Model) -> Model:
    """The model with a free batch where that is proven; else as it is, with a notice."""
    image = image_input(model)
    if image.batch is None:
        return model
    free = free_batch(model, image.name) if image.batch == 1 else None
    if free is not None and _is_free(model, free, image):
        return free
    notice = f"the model takes exactly {image.batch} picture(s) at a time, so it is run that way"
    return replace(model, notices=(*model.notices, notice))


def _is_free(model: Model, free: Model, image: ImageInput) -> bool:
    """Whether `free` takes any batch, and gives each picture what `model` gives it alone."""
    shape = tuple(model.graph.tensors()[image.name].shape)
    if not all(isinstance(dim, int) for dim in shape):
        return False
    cpu = device("cpu")
    content, weights = model.content_and_weights()
    try:
        single = Session(content, cpu, weights)
        content, weights = free.content_and_weights()
        many = Session(content, cpu, weights)
    except ModelError:  # of the original, which may run only on another device
        return False
    return samples_are_independent(single, many, image.name, shape, image.dtype)
