"""The score of a model, found with the help of its metadata."""

from __future__ import annotations

from onnxcam.heads.dense_score import ensure_class_scores
from onnxcam.image.labels import metadata_labels
from onnxcam.model.model import Model
from onnxcam.specs import Score


def scored(model: Model, output: str | None = None) -> tuple[Model, Score]:
    """`with_score`, given how many classes the model's metadata names. Raises the same errors."""
    names = metadata_labels(model.metadata)
    return ensure_class_scores(model, output, len(names) if names else None)
