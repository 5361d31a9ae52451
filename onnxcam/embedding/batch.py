"""The model for the number of rows that a round has."""

from __future__ import annotations

from onnxcam.errors import SettingError
from onnxcam.explain.free_batch_proof import free_batch_if_proven
from onnxcam.model.free_batch import infer_again
from onnxcam.model.image_input import image_input
from onnxcam.model.model import Model


def with_batch(model: Model, rows: int | None) -> Model | None:
    """The model for so many images at once, None for any number; None if it cannot be had. A batch that was
    fixed at one image is freed only if running both models proves that the results stay the same.
    """
    image = image_input(model)
    if image.batch == rows:
        return model
    free = free_batch_if_proven(model)
    if image_input(free).batch is not None or not _has_rows(free, image.name):
        return None
    if rows is None:
        return free
    fixed = free.copy()
    tensor = fixed.graph.tensors()[image.name]
    tensor.shape = [rows, *tensor.shape[1:]]
    return infer_again(fixed, image.name)


def _has_rows(free: Model, image: str) -> bool:
    """Whether the first axis of every output is that of the images."""
    batch = free.graph.tensors()[image].shape[0]
    return all(tensor.shape and tensor.shape[0] in (batch, None) for tensor in free.graph.outputs)


def with_size(model: Model, size: tuple[int, int]) -> Model:
    """The model for images of this size (height, width). SettingError if it does not take them."""
    image = image_input(model)
    if (image.height, image.width) == size:
        return model
    fixed = model.copy()
    tensor = fixed.graph.tensors()[image.name]
    first = 2 if image.layout == "NCHW" else 1
    shape = list(tensor.shape)
    shape[first : first + 2] = size
    is_other = any(
        side is not None and side != own
        for side, own in zip((image.height, image.width), size, strict=True)
    )
    tensor.shape = shape
    inferred = None if is_other else infer_again(fixed, image.name)
    if inferred is None:
        raise SettingError(
            f"{model.name}: takes no images of {size[0]} x {size[1]} pixels; choose another --size"
        )
    return inferred
