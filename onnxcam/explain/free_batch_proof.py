"""Free models from a fixed batch, if running both models proves that the results stay the same."""

from __future__ import annotations

from dataclasses import replace

from onnxcam.errors import ModelError
from onnxcam.model.free_batch import free_batch, repeat_rows
from onnxcam.model.image_input import image_input
from onnxcam.model.model import Model
from onnxcam.runtime.batch_independence import samples_are_independent
from onnxcam.runtime.device import find_device
from onnxcam.runtime.session import Session
from onnxcam.specs import ImageInput


def free_batch_if_proven(model: Model) -> Model:
    """The model with a dynamic batch size if proven to be safe; otherwise the same model with a notice."""
    image = image_input(model)
    if image.batch is None:
        return repeat_rows(model, image.name) if model.inputs else model
    free = free_batch(model, image.name) if image.batch == 1 else None
    if free is not None and _gives_same_results(model, free, image):
        return free
    images = "1 image" if image.batch == 1 else f"{image.batch} images"
    rate = "one by one" if image.batch == 1 else f"{image.batch} at a time"
    notice = f"the model accepts exactly {images} at a time, so images are run {rate}"
    return replace(model, notices=(*model.notices, notice))


def _gives_same_results(model: Model, free: Model, image: ImageInput) -> bool:
    """Whether `free` accepts any batch, and returns for each image what `model` returns for it alone."""
    shape = tuple(model.graph.tensors()[image.name].shape)
    if not all(isinstance(dim, int) for dim in shape):
        return False
    cpu = find_device("cpu")
    content, weights = model.content_and_weights()
    try:
        single = Session(content, cpu, weights)
        content, weights = free.content_and_weights()
        batched = Session(content, cpu, weights)
    except ModelError:  # the original may run only on another device
        return False
    return samples_are_independent(single, batched, image.name, shape, image.dtype)
