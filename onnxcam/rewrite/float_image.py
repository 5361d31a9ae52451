"""Take the integers of an image as floats, so that a gradient can reach them."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcam.arrays import FLOAT32, is_integer
from onnxcam.errors import ModelError
from onnxcam.model.model import Model
from onnxcam.specs import ImageInput


def with_float_image(model: Model, image: ImageInput) -> Model:
    """A copy that takes the same numbers in float32 if the model takes integers; else the model itself.

    ModelError if an operator other than Cast reads the integers: floats may have another meaning there.
    """
    if not is_integer(image.dtype):
        return model
    copy = model.copy()
    tensor = copy.graph.tensors()[image.name]
    other = next((node for node in tensor.outputs if node.op != "Cast"), None)
    if other is not None:
        raise ModelError(
            f"{model.name}: the image {image.name!r} holds integers, which {other.op} ({other.name}) reads, so "
            "it has no gradient; use a method at a layer (`onnxcam methods`)"
        )
    tensor.dtype = FLOAT32
    return copy


def image_dtype(model: Model, image: ImageInput) -> np.dtype[Any]:
    """The dtype in which the model, which may have been changed, takes its image."""
    dtype = model.graph.tensors()[image.name].dtype
    return image.dtype if isinstance(dtype, int) else np.dtype(dtype)
