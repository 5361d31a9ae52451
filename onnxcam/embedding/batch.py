"""The model for the number of images, or of rows of images, that a round has."""

from __future__ import annotations

from onnxcam.errors import ModelError, SettingError
from onnxcam.explain.free_batch_proof import free_batch_if_proven
from onnxcam.model.image_input import image_input
from onnxcam.model.image_shape import shape_images
from onnxcam.model.model import Model
from onnxcam.runtime.batch_independence import samples_are_independent
from onnxcam.runtime.device import find_device
from onnxcam.runtime.session import Session


def with_images(model: Model, images: int | None) -> Model | None:
    """The model for so many images at once, None for any number; None if it cannot be had. A batch that was
    fixed at one image is freed only if running both models proves that the results stay the same.
    """
    if images is not None and image_input(model).batch == images:
        return model
    free = free_batch_if_proven(model)
    if image_input(free).batch is not None:
        return None
    return free if images is None else _with_fixed_batch(free, images)


def with_rows(model: Model, rows: int | None) -> Model | None:
    """The same for several rows of each image. None also if an output has no row for each row of the input, or
    one that depends on the others.
    """
    image, free = image_input(model), free_batch_if_proven(model)
    if image_input(free).batch is not None:
        return None
    if image.batch is None and not _has_independent_rows(free):
        return None
    return free if rows is None else _with_fixed_batch(free, rows)


def _with_fixed_batch(free: Model, rows: int) -> Model | None:
    try:
        return shape_images(free.copy(), image_input(free).name, rows)
    except ModelError:
        return None


def _has_independent_rows(free: Model) -> bool:
    """Whether two images give all outputs as each of them alone, tried on a CPU."""
    image = image_input(free)
    shape = (1, *free.graph.tensors()[image.name].shape[1:])
    content, weights = free.content_and_weights()
    try:
        session = Session(content, find_device("cpu"), weights)
    except ModelError:  # it may run only on another device
        return False
    return samples_are_independent(session, session, image.name, shape, image.dtype)


def with_size(model: Model, size: tuple[int, int]) -> Model:
    """The model for images of this size (height, width). SettingError if it does not take them."""
    image = image_input(model)
    if (image.height, image.width) == size:
        return model
    refusal = SettingError(
        f"{model.name}: takes no images of {size[0]} x {size[1]} pixels; choose another --size"
    )
    sides = zip((image.height, image.width), size, strict=True)
    if any(declared not in (None, side) for declared, side in sides):
        raise refusal
    try:
        return shape_images(model.copy(), image.name, size=size)
    except ModelError as error:
        raise refusal from error
