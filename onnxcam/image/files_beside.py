"""Files beside a model that describe it: those of Hugging Face and timm. They are read, but not trusted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from onnxcam.digests import digest_bytes
from onnxcam.errors import SettingError, first_line
from onnxcam.image.description import Description
from onnxcam.image.labels import check_labels
from onnxcam.image.processor_config import from_processor, is_processor
from onnxcam.image.timm_config import from_timm, timm_settings
from onnxcam.regular_files import read_regular

PROCESSORS = ("preprocessor_config.json", "processor_config.json")
CONFIG = "config.json"
_LABEL_KEYS = ("id2label", "label_names", "label2id")
_DAMAGE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)
T = TypeVar("T")


@dataclass
class FilesBeside:
    """The files beside a model at `path`; None for a model that is not in a file.

    A model in a folder `onnx` has its files in the folder above, as repositories of Hugging Face do. `problems`
    are notices about files that cannot be used, `digests` those of the files that were.
    """

    path: Path | None
    problems: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)

    @cached_property
    def preprocessing(self) -> tuple[Description, str] | None:
        """What the files say about the preparation of images, and the name of the file; None if nothing."""
        for name in (*PROCESSORS, CONFIG):
            if description := self._use(name, _describe):
                return description, name
        return None

    @cached_property
    def labels(self) -> tuple[str, ...] | None:
        """The names of the classes in `config.json`, in order of class; None if it has none."""
        return self._use(CONFIG, _labels)

    def _use(self, name: str, read: Callable[[Mapping[str, Any]], T | None]) -> T | None:
        """What `read` finds in a file; None, and a notice, if the file is damaged."""
        for path in self._paths(name):
            content = read_regular(path)
            if content is None:
                self._report(name, "it is too large or cannot be read")
                return None
            try:
                config = json.loads(content)
                result = read(config) if isinstance(config, Mapping) else None
            except _DAMAGE as error:
                self._report(name, first_line(error) or type(error).__name__)
                return None
            if result is not None:
                self.digests[name] = digest_bytes(content)
            return result
        return None

    def _paths(self, name: str) -> Iterator[Path]:
        """The file of this name that belongs to the model."""
        if self.path is None:
            return
        folder = self.path.parent
        folders = [folder, folder.parent] if folder.name.lower() == "onnx" else [folder]
        yield from (path for path in (place / name for place in folders) if path.exists())

    def _report(self, name: str, cause: str) -> None:
        notice = f"{name} beside the model is ignored, because it is damaged ({cause})"
        if notice not in self.problems:
            self.problems.append(notice)


def _describe(config: Mapping[str, Any]) -> Description | None:
    inner = config.get("image_processor")
    processor = inner if isinstance(inner, Mapping) else config
    if is_processor(processor):
        return from_processor(processor)
    settings = timm_settings(config)
    return from_timm(settings) if settings is not None else None


def _labels(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names of the classes; None for the numbers that `transformers` writes where there are no names."""
    names = next((config[key] for key in _LABEL_KEYS if config.get(key)), None)
    if names is None:
        return None
    try:
        labels = check_labels(names)
    except SettingError as error:
        raise ValueError(str(error)) from error
    is_numbered = all(label == f"LABEL_{number}" for number, label in enumerate(labels))
    return None if is_numbered else labels
