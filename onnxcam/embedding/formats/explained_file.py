"""What a format needs to know of a file with an explanation, and how a format's folder is written."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxcam.atomic_write import atomic_write
from onnxcam.embedding.metadata import EmbeddedExplanation, from_properties
from onnxcam.errors import ModelError, OutputError
from onnxcam.model.file_facts import describe_proto
from onnxcam.model.proto.skim import skim_proto


@dataclass(frozen=True)
class Value:
    """An input or output: its dtype as NumPy names it, and its shape with a number, a name or None per axis."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True)
class ExplainedFile:
    """A file with an explanation: its inputs and outputs in order, and the files of its external data."""

    path: Path
    explanation: EmbeddedExplanation
    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]
    data: tuple[Path, ...] = ()

    @property
    def scores(self) -> Value | None:
        """The output with one score per class: the one that is named so, or the only one of its shape. None if
        there is none, as of detectors.
        """
        score = self.explanation.score
        if score is None or score.output in self.outputs:
            return self.outputs[score.output] if score else None
        fitting = [v for v in self.outputs.values() if v.shape[1:] == (score.classes,)]
        return fitting[0] if len(fitting) == 1 else None


@dataclass(frozen=True)
class Written:
    """The files of a folder, those of them that are the `model`, and what to do with them, in sentences."""

    files: tuple[Path, ...]
    model: tuple[Path, ...]
    advice: tuple[str, ...]


def read_explained(path: Path) -> ExplainedFile:
    """ModelError if the file cannot be read, holds no explanation, or lacks external data."""
    proto = skim_proto(path)
    metadata = {prop.key: prop.value for prop in proto.metadata_props}
    explanation = from_properties(metadata, str(path))
    if explanation is None:
        raise ModelError(f"{path}: holds no explanation; write one into it with `onnxcam embed`")
    facts = describe_proto(proto, path)
    if problem := next((file["problem"] for file in facts["external_data"] if file["problem"]), ""):
        raise ModelError(str(problem))
    data = tuple(path.parent / file["name"] for file in facts["external_data"])
    return ExplainedFile(
        path, explanation, _by_name(facts["inputs"]), _by_name(facts["outputs"]), data
    )


def _by_name(values: list[dict[str, Any]]) -> dict[str, Value]:
    return {
        value["name"]: Value(value["name"], value["dtype"], tuple(value["shape"] or ()))
        for value in values
    }


def require_free(folder: Path, force: bool) -> None:
    """OutputError if the folder is a file, or has content that is not to be replaced."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; choose a folder")
    if not force and folder.is_dir() and any(folder.iterdir()):
        raise OutputError(
            f"{folder} is not empty; choose another folder, or add to it with --force"
        )


def write_files(folder: Path, sources: Mapping[str, Path | bytes]) -> tuple[Path, ...]:
    """Write files by their names in the folder: copies of others, or contents. Returns their paths, in order.
    OutputError if that fails.
    """
    for name, source in sources.items():
        with atomic_write(folder / name) as unfinished:
            if isinstance(source, bytes):
                unfinished.write_bytes(source)
            else:
                shutil.copyfile(source, unfinished)
    return tuple(folder / name for name in sources)
