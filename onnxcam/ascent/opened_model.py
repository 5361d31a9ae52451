"""A model that is opened for an ascent: how it takes images, its classes, and its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from onnxcam._version import __version__
from onnxcam.ascent.pixel_range import PixelRange
from onnxcam.dense import Dense, HeadChoice
from onnxcam.digests import digest_bytes, digest_json
from onnxcam.errors import ModelError
from onnxcam.explain.arguments import LabelSource, files_beside, path_text, resolve_labels
from onnxcam.explain.head_choice import parse_head
from onnxcam.explain.image_values import read_inputs
from onnxcam.explain.loaded_model import LoadedModel
from onnxcam.explain.model_files import identify_files
from onnxcam.heads.dense_score import ensure_class_scores
from onnxcam.heads.first_output import first_output
from onnxcam.heads.positions import with_dense_scores
from onnxcam.heads.vectors import ScoredModel
from onnxcam.image.preprocess import Preprocessing, tensor_size, to_dict
from onnxcam.image.preprocessing_choice import choose, notice_of, requested_size, with_settings
from onnxcam.model.image_input import image_input
from onnxcam.model.model import Model
from onnxcam.model.training_mode import training_notices
from onnxcam.runtime.device import Device, find_device
from onnxcam.runtime.model_validity import blames_invalid_models
from onnxcam.runtime.session import versions
from onnxcam.spatial.layers import spatial_layers
from onnxcam.specs import ImageInput, Layer, Score


class _Classes(NamedTuple):
    metadata: Mapping[str, str]
    score: Score
    dense: Dense | None
    names: tuple[str, ...]


@dataclass(frozen=True)
class OpenedModel:
    """A model, what it takes, and where it runs. `source` is what the user named, `chunk` how many images are
    run at once; `labels`, `output` and `head` are what the user says about its classes.
    """

    source: Any
    model: Model
    image: ImageInput
    preprocessing: Preprocessing
    preprocessing_notice: str | None
    device: Device
    chunk: int | None
    label_source: LabelSource
    output: str | None
    head: HeadChoice
    arguments: Mapping[str, Any]

    @cached_property
    def range(self) -> PixelRange:
        """What preprocessing can produce."""
        return PixelRange.of(self.preprocessing, self.image)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images."""
        return tensor_size(self.preprocessing, self.image)

    @cached_property
    def scored(self) -> ScoredModel:
        """The model with one score per class. Of a model that scores positions that is its mean over pixels, or
        its maximum over boxes, which needs no choice of positions while the image changes.
        """
        scored = with_dense_scores(self.model, self.output, self.head)
        if scored.dense is None:
            return scored
        pooled, score = ensure_class_scores(self.model, self.head.scores or self.output)
        return scored._replace(model=pooled, score=score)

    @cached_property
    def _resolved_labels(self) -> tuple[tuple[str, ...] | None, str | None]:
        scored = self.scored
        classes = _Classes(scored.model.metadata, scored.score, scored.dense, scored.names)
        return resolve_labels(self.label_source, classes, files_beside(self.source))

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The names of the classes, if they are known."""
        return self._resolved_labels[0]

    @property
    def label_notice(self) -> str | None:
        """What is wrong with labels that are not used."""
        return self._resolved_labels[1]

    @property
    def layers(self) -> list[Layer]:
        """The layers with cells, in the order of the graph, as `onnxcam layers` lists them."""
        try:
            model, score, *_ = with_dense_scores(self.model, self.output, self.head)
        except ModelError:
            model, score = self.model, first_output(self.model)
        return spatial_layers(model, self.image.name, score.logits)

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should know about the model and its images."""
        notices = (*self.model.notices, *training_notices(self.model.graph))
        about_images = self.preprocessing_notice
        return notices + ((about_images,) if about_images else ())

    @property
    def content_digest(self) -> str:
        """The digest of the graph and of all weights, also of a model that is in no file."""
        content, weights = self.model.content_and_weights()
        digests = {name: digest_bytes(array.tobytes()) for name, array in weights.items()}
        return digest_json([digest_bytes(content), digests])

    def provenance(self, targets: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
        """The part of a manifest that says what was run, for which targets and with which settings, as JSON
        values.
        """
        return {
            "model": {
                "name": self.model.name,
                "source": path_text(self.source),
                "sha256": self.model.digest,
            },
            "labels": path_text(self.label_source),
            "inputs": {bound.name: bound.to_json() for bound in self.model.inputs},
            "preprocessing": to_dict(self.preprocessing),
            "device": str(self.device),
            "versions": {"onnxcam": __version__, **versions()},
            "targets": {**targets, **self.arguments},
            "settings": dict(settings),
        }


def open_model(
    model: str | Path | bytes | Model,
    *,
    device: str = "auto",
    preprocess: str | Preprocessing = "auto",
    pixels: Mapping[str, Any] | None = None,
    labels: LabelSource = "auto",
    output: str | None = None,
    task: str | None = None,
    head: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    chunk: int | None = None,
) -> OpenedModel:
    """A model for an ascent; the arguments are those of an `Explainer`, and so are the errors."""
    bound = read_inputs(model, inputs, preprocess, pixels)
    with blames_invalid_models(model):
        files, size = identify_files(model), requested_size(preprocess, pixels)
        loaded = LoadedModel().get(model, files, bound, size)
        takes = image_input(loaded)
    choice = with_settings(
        choose(preprocess, loaded.metadata, takes, files_beside(model)), **(pixels or {})
    )
    return OpenedModel(
        model,
        loaded,
        takes,
        choice.preprocessing,
        notice_of(choice, takes),
        find_device(device),
        chunk,
        labels,
        output,
        parse_head(task, head),
        {"output": output, "task": task, "head": head},
    )
