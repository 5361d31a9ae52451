"""What an .onnx file is, for `onnxcam inspect`: its explanation or gradients, else what the model is for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from onnxcam.embedding.metadata import EmbeddedExplanation, from_properties
from onnxcam.embedding.signature import describe_call
from onnxcam.errors import OnnxcamError, one_line
from onnxcam.heads.description import describe_outputs
from onnxcam.image.files_beside import CONFIG, FilesBeside
from onnxcam.image.labels import metadata_labels
from onnxcam.image.preprocess import to_dict
from onnxcam.image.preprocessing_choice import AUTO, choose
from onnxcam.model.file_facts import describe_proto
from onnxcam.model.image_input import image_input
from onnxcam.model.load import load_mapped
from onnxcam.model.model import Model
from onnxcam.model.proto.skim import skim_proto
from onnxcam.rewrite.augmented import augmented_layers, describe_gradients
from onnxcam.specs import SEED


def inspect_file(path: Path) -> dict[str, Any]:
    """Everything that `onnxcam inspect` prints: the facts of `describe_proto`, and `explanation`, or else what
    the model is for (`task`), its `labels` and how its images are prepared (`preprocessing`). `gradients` are
    the layers of a file that `onnxcam augment` wrote, which has no task but the gradients.

    ModelError for a file that cannot be read or is no model.
    """
    proto = skim_proto(path)
    facts = describe_proto(proto, path)
    metadata = {prop.key: prop.value for prop in proto.metadata_props}
    explanation = from_properties(metadata, str(path))
    facts["metadata"] = sorted(metadata)
    facts["explanation"] = explanation and _describe_explanation(explanation)
    names = ([value["name"] for value in facts[kind]] for kind in ("inputs", "outputs"))
    facts["gradients"] = layers = [] if explanation else augmented_layers(*names)
    if explanation is not None:
        call = describe_call(explanation, facts["inputs"], facts["outputs"])
        return {**facts, **call}
    files = FilesBeside(path)
    if layers:
        facts |= describe_gradients(layers, facts["inputs"], facts["outputs"])
    labels = _describe_labels(metadata_labels(metadata), files)
    described = _describe_model(lambda: load_mapped(path, proto), files, is_augmented=bool(layers))
    return {**facts, **described, "labels": labels}


def _describe_explanation(explanation: EmbeddedExplanation) -> dict[str, Any]:
    """The explanation as plain data."""
    prepared, labels = explanation.preprocessing, explanation.labels
    facts = {**vars(explanation), "settings": dict(explanation.settings)}
    return facts | {
        "layers": list(explanation.layers),
        "preprocessing": None if prepared is None else to_dict(prepared),
        "score": explanation.score and vars(explanation.score),
        "labels": None if labels is None else list(labels),
    }


def _describe_model(
    load: Callable[[], Model], files: FilesBeside, *, is_augmented: bool
) -> dict[str, Any]:
    """What the outputs are taken for, and how images are prepared; the reason where that is not known."""
    facts: dict[str, Any] = {"task": None, "preprocessing": None, "problem": None}
    try:
        model = _without_seed(load()) if is_augmented else load()
        image = image_input(model)
        choice = choose(AUTO, model.metadata, image, files)
        if len(choice.assumed) == 0:
            facts["preprocessing"] = {
                **to_dict(choice.preprocessing),
                "source": choice.file or "its metadata",
            }
        facts["task"] = None if is_augmented else describe_outputs(model)
    except OnnxcamError as error:
        facts["problem"] = one_line(error)
    return facts


def _without_seed(model: Model) -> Model:
    """An augmented model with the inputs of the original."""
    copy = model.copy()
    copy.graph.inputs = [tensor for tensor in copy.graph.inputs if tensor.name != SEED]
    return copy


def _describe_labels(names: tuple[str, ...] | None, files: FilesBeside) -> dict[str, Any] | None:
    """The names of the classes, and where they are; None if there are none."""
    if names is not None:
        return {"names": list(names), "source": "its metadata"}
    beside = files.labels
    return None if beside is None else {"names": list(beside), "source": f"{CONFIG} beside it"}
