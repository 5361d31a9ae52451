"""Values of other inputs that are images: the template of a tracker, or the earlier one of two images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from onnxcam.arrays import Array
from onnxcam.errors import SettingError, unknown
from onnxcam.explain.arguments import files_beside
from onnxcam.explain.inputs import prepare_source
from onnxcam.image.preprocess import Preprocessing
from onnxcam.image.preprocessing_choice import choose, with_settings
from onnxcam.model.input_values import input_arrays, type_text


def read_inputs(
    model: Any,
    inputs: Mapping[str, Any] | None,
    preprocess: str | Preprocessing = "auto",
    pixels: Mapping[str, Any] | None = None,
) -> dict[str, Array]:
    """The values of inputs as arrays. Those that are images (paths, PIL images) are prepared for the input that
    they belong to as the explained images are; the arguments are those of an `Explainer`.

    Raises what `input_arrays` raises, SettingError for an image of an input that takes none, UnknownNameError,
    and ImageError.
    """
    images = {
        name: value
        for name, value in (inputs.items() if isinstance(inputs, Mapping) else ())
        if isinstance(value, (str, Path, Image.Image))
    }
    if not images:
        return input_arrays(inputs)
    from onnxcam.model.image_input import describe_image, is_image
    from onnxcam.model.load import load
    from onnxcam.model.model import Model

    loaded = model if isinstance(model, Model) else load(model)
    tensors = {tensor.name: tensor for tensor in loaded.graph.inputs}
    prepared = {}
    for name, source in images.items():
        if name not in tensors:
            raise unknown("input", name, tensors)
        if not is_image(tensor := tensors[name]):
            raise SettingError(
                f"{loaded.name}: the input {name!r} ({type_text(tensor.dtype, tensor.shape)}) takes no "
                "image; give numbers, or a .npy file"
            )
        takes = describe_image(loaded, tensor)
        own = {**(pixels or {}), **({} if None in (takes.height, takes.width) else {"size": None})}
        choice = with_settings(
            choose(preprocess, loaded.metadata, takes, files_beside(model)), **own
        )
        prepared[name] = prepare_source(source, 0, choice.preprocessing, takes).tensor
    return input_arrays({**(inputs or {}), **prepared})
