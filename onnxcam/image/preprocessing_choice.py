"""The preprocessing of a model's images, and which of its settings are assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnxcam.image.metadata import from_metadata, settings_in_metadata, size_in_metadata
from onnxcam.image.preprocess import PRESETS, Preprocessing, preset_for, tensor_size, with_overrides
from onnxcam.specs import ImageInput

AUTO = "auto"
_ASSUMABLE = ("scale", "mean", "std", "order", "fit")  # the settings that have an option
_AUTHOR_KEYS = ("author", "producer", "framework", "source")
_AUTHORS = {"ultralytics": "unit"}  # the presets that authors document for their models


@dataclass(frozen=True)
class Choice:
    """A preprocessing, and the names of its settings that neither the user nor the model specified.

    `origin` says where those settings come from.
    """

    preprocessing: Preprocessing
    assumed: tuple[str, ...] = ()
    origin: str = ""


def choose(
    preprocess: str | Preprocessing, metadata: Mapping[str, str], takes: ImageInput
) -> Choice:
    """The requested preprocessing; for "auto" that of the metadata, or else an assumed preset.

    UnknownNameError for an unknown preset.
    """
    if isinstance(preprocess, Preprocessing):
        return Choice(preprocess)
    choice = (
        Choice(PRESETS[preprocess])
        if preprocess != AUTO
        else _choose_automatically(metadata, takes)
    )
    size = size_in_metadata(metadata, takes) if None in (takes.height, takes.width) else None
    return choice if size is None else with_settings(choice, size=size)


def _choose_automatically(metadata: Mapping[str, str], takes: ImageInput) -> Choice:
    if (described := from_metadata(metadata)) is not None:
        named = settings_in_metadata(metadata)
        assumed = tuple(name for name in _ASSUMABLE[:3] if name not in named)
        return Choice(described, assumed, "in addition to its metadata")
    author = next((metadata[key] for key in _AUTHOR_KEYS if metadata.get(key)), "")
    preset = _AUTHORS.get(author.strip().lower(), preset_for(takes))
    source = f"; its metadata names {author[:60]!r}" if author else ""
    return Choice(PRESETS[preset], _ASSUMABLE, f"the preset {preset}{source}")


def with_settings(choice: Choice, **settings: Any) -> Choice:
    """The choice with these settings replaced (see `with_overrides`), which are then no longer assumed."""
    changed = {name for name, value in settings.items() if value is not None}
    assumed = tuple(name for name in choice.assumed if name not in changed)
    return Choice(with_overrides(choice.preprocessing, **settings), assumed, choice.origin)


def notice_of(choice: Choice, takes: ImageInput) -> str | None:
    """What is assumed about the images, and the options that change it; None if nothing is."""
    settings = choice.preprocessing
    options = [f"--{name} {_option_text(getattr(settings, name))}" for name in choice.assumed]
    size = ""
    if settings.size is None and None in (takes.height, takes.width):
        size = f"--size {_option_text(tensor_size(settings, takes))}"
    if not options:
        return f"the model accepts images of any size; {size} is assumed" if size else None
    return (
        f"the model does not specify how images are prepared; assumed: {' '.join([*options, size]).strip()} "
        f"({choice.origin}); if it was trained differently, scores and maps are wrong: change these "
        f"options, or choose another --preprocess ({', '.join(PRESETS)})"
    )


def _option_text(value: Any) -> str:
    """The value as it is written on the command line."""
    if isinstance(value, str):
        return value
    return ",".join(f"{number:.9g}" for number in (value if isinstance(value, tuple) else (value,)))
