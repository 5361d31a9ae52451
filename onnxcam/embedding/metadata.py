"""What a file with an embedded explanation says about itself, in its `metadata_props`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx

from onnxcam._version import __version__
from onnxcam.errors import ModelError, SettingError, first_line
from onnxcam.image.labels import metadata_labels
from onnxcam.image.preprocess import Preprocessing, from_dict, to_dict
from onnxcam.model.explained_model import PREFIX, SCHEMA_KEY, refuse_explained
from onnxcam.model.model import Model
from onnxcam.model.proto.read import parse_content
from onnxcam.model.proto.skim import skim_proto

EVERY_CLASS = "every class"  # the target of a method whose map does not depend on it
SCHEMA = 1  # a reader refuses newer ones
MAX_LABELS_BYTES = 100_000

PIXELS, TARGET = "pixels", "target"  # inputs: uint8 pixels (N, h, w, 3), and classes (N,)
SALIENCY, OVERLAY, LAYER_MAP = "saliency", "overlay", "layer_map"  # outputs

Properties = Mapping[str, str]


@dataclass(frozen=True)
class ScoreOutput:
    """The tensor with the class scores (N, classes), an output of the original or what one was rounded from;
    `activation` ("Softmax" or "Sigmoid") has made probabilities of them, and is None for raw scores.
    """

    output: str
    classes: int
    activation: str | None = None


@dataclass(frozen=True)
class EmbeddedExplanation:
    """How the map in a file is computed, and of which model.

    `target` is what is explained, or, if the file `takes_target`, what its input `target` stands for at -1.
    `model_name` and `model_sha256` are of the original file. `preprocessing` is what turns pixels into the
    original's input; the file does it itself if `takes_pixels`, else its caller must. `samples` are the runs of
    the network for one image besides the clean one, in `rounds` of equal size. `signed` maps have negative
    values, which are evidence against the target. `labels` are the names of the classes.
    """

    method: str
    layers: tuple[str, ...]
    model_name: str
    model_sha256: str
    target: str = "top1"
    takes_target: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    takes_pixels: bool = False
    samples: int = 0
    rounds: int = 1
    signed: bool = False
    score: ScoreOutput | None = None
    labels: tuple[str, ...] | None = None
    version: str = __version__
    schema: int = SCHEMA


def write_metadata(model: Model, explanation: EmbeddedExplanation) -> Model:
    """The same model with the properties of an explanation, besides its own. Labels that its own metadata hold
    are not stored twice; a notice says so where they are not stored because of their size.
    """
    own = {key: text for key, text in model.metadata.items() if not key.startswith(PREFIX)}
    properties, labels = to_properties(explanation), explanation.labels
    notices = model.notices
    if labels is not None and labels != metadata_labels(own):
        text = json.dumps(labels, ensure_ascii=False)
        if len(text.encode()) <= MAX_LABELS_BYTES:
            properties[f"{PREFIX}labels"] = text
        else:
            notices = (*notices, _describe_omission(len(text.encode())))
    return replace(model, metadata={**own, **properties}, notices=notices)


def _describe_omission(size: int) -> str:
    return (
        f"the labels are not stored in the file, because they have {size} bytes, more than "
        f"{MAX_LABELS_BYTES}; keep their file beside it"
    )


def to_properties(explanation: EmbeddedExplanation) -> dict[str, str]:
    """The metadata of an explanation, without its labels."""
    values: dict[str, Any] = {
        "schema": explanation.schema,
        "version": explanation.version,
        "method": explanation.method,
        "layers": explanation.layers,
        "target": explanation.target,
        "takes_target": explanation.takes_target,
        "settings": dict(explanation.settings),
        "model": {"name": explanation.model_name, "sha256": explanation.model_sha256},
        "preprocessing": explanation.preprocessing and to_dict(explanation.preprocessing),
        "takes_pixels": explanation.takes_pixels,
        "samples": explanation.samples,
        "rounds": explanation.rounds,
        "signed": explanation.signed,
        "score": explanation.score and asdict(explanation.score),
    }
    return {
        f"{PREFIX}{key}": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in values.items()
        if value is not None
    }


def metadata_of(source: str | Path | bytes | onnx.ModelProto) -> EmbeddedExplanation | None:
    """The explanation in a file, from its path, content or protocol buffer; None if it holds none. External
    data is not read, and neither are large weights.

    ModelError for a file that is not a model, damaged properties, or a newer schema.
    """
    name = "the model" if isinstance(source, (bytes, onnx.ModelProto)) else str(source)
    return from_properties(_properties_of(source, name), name)


def _properties_of(source: str | Path | bytes | onnx.ModelProto, name: str) -> dict[str, str]:
    if isinstance(source, (str, Path)):
        source = skim_proto(Path(source))
    proto = parse_content(source, name) if isinstance(source, bytes) else source
    return {prop.key: prop.value for prop in proto.metadata_props}


def refuse_explained_source(model: str | Path | bytes | Model) -> None:
    """ModelError for a model that holds an explanation, into which no other can be written."""
    if isinstance(model, Model):
        refuse_explained(model.metadata, model.name)
    elif isinstance(model, bytes) or Path(model).is_file():
        name = "the model" if isinstance(model, bytes) else str(model)
        refuse_explained(_properties_of(model, name), name)
    # a pipe can be read only once, and a path to nothing is an error when it is loaded


def from_properties(metadata: Properties, name: str = "the model") -> EmbeddedExplanation | None:
    """The explanation that `metadata_props` describe; None if they describe none. ModelError, which begins with
    `name`, for damaged ones or a newer schema.
    """
    texts = {
        key.removeprefix(PREFIX): text for key, text in metadata.items() if key.startswith(PREFIX)
    }
    if SCHEMA_KEY not in metadata:
        return None
    try:
        if int(texts["schema"]) > SCHEMA:
            raise ModelError(
                f"{name}: its explanation has the schema {texts['schema']}, this onnxcam reads {SCHEMA} at "
                "most; install a newer onnxcam"
            )
        return _from_texts(texts, metadata_labels(metadata))
    except (KeyError, TypeError, ValueError, AttributeError, SettingError) as error:
        raise ModelError(
            f"{name}: the metadata of its explanation are damaged ({type(error).__name__}: "
            f"{first_line(error)}); write the file again with `onnxcam embed`"
        ) from error


def _from_texts(texts: Properties, labels: tuple[str, ...] | None) -> EmbeddedExplanation:
    """The explanation of the properties without their prefix; `labels` are those of the original."""
    plain = {key: texts[key] for key in ("method", "version", "target") if key in texts}
    values = {key: json.loads(text) for key, text in texts.items() if key not in plain}
    preprocessing, score = values.get("preprocessing"), values.get("score")
    return EmbeddedExplanation(
        method=plain["method"],
        layers=tuple(map(str, values["layers"])),
        model_name=str(values["model"]["name"]),
        model_sha256=str(values["model"]["sha256"]),
        target=plain["target"],
        takes_target=bool(values["takes_target"]),
        settings=dict(values["settings"]),
        preprocessing=None if preprocessing is None else from_dict(preprocessing),
        takes_pixels=bool(values["takes_pixels"]),
        samples=int(values["samples"]),
        rounds=int(values["rounds"]),
        signed=bool(values["signed"]),
        score=None if score is None else ScoreOutput(**score),
        labels=tuple(map(str, values["labels"])) if "labels" in values else labels,
        version=plain["version"],
        schema=int(values["schema"]),
    )
