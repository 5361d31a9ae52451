"""A model that is loaded once for several requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onnxcam.arrays import Array
from onnxcam.explain.model_files import ModelFiles
from onnxcam.model.input_values import digest_inputs

if TYPE_CHECKING:
    from onnxcam.model.model import Model


@dataclass
class LoadedModel:
    """A model that was loaded, for the requests that follow, as long as its files and inputs are the same.
    Nothing that is planned changes it. `as_exported` is the model before its input was adapted.
    """

    model: Model | None = None
    as_exported: Model | None = None
    key: object = None

    def get(
        self,
        source: str | Path | bytes | Model,
        files: ModelFiles | None,
        inputs: Mapping[str, Array],
        size: tuple[int, int] | None = None,
    ) -> Model:
        """The loaded model for images of this size, whose batch is free if that can be proven."""
        from onnxcam.explain.free_batch_proof import free_batch_if_proven
        from onnxcam.model.image_axes import for_images

        key = id(source), files, digest_inputs(inputs), size
        if self.model is None or self.key != key:
            self.as_exported = read_model(source, inputs)
            self.model = free_batch_if_proven(for_images(self.as_exported, size))
            self.key = key
        return self.model


def read_model(source: str | Path | bytes | Model, inputs: Mapping[str, Array]) -> Model:
    """The model as it was exported, with values of inputs as constants."""
    from onnxcam.model.load import bind_inputs, load
    from onnxcam.model.model import Model

    return bind_inputs(source, inputs) if isinstance(source, Model) else load(source, inputs)
