"""The preprocessing of a model's images, and which of its settings are assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from onnxcam.image.description import ASSUMABLE, Description
from onnxcam.image.files_beside import FilesBeside
from onnxcam.image.graph_evidence import from_evidence
from onnxcam.image.metadata import from_metadata, settings_in_metadata, size_in_metadata
from onnxcam.image.preprocess import PRESETS, Preprocessing, preset_for, tensor_size, with_overrides
from onnxcam.image.ultralytics import from_ultralytics
from onnxcam.specs import ImageInput

AUTO = "auto"
_AUTHOR_KEYS = ("author", "producer", "framework", "source")
COLORS = (None, 1, 3)  # channels for which images can be prepared
_NO_FILES = FilesBeside(None)


@dataclass(frozen=True)
class Choice:
    """A preprocessing, and the names of its settings that neither the user nor the model specified.

    `origin` says where those settings come from. `file` is the file beside the model that describes the others,
    and `doubt` why it may be that of another model.
    """

    preprocessing: Preprocessing
    assumed: tuple[str, ...] = ()
    origin: str = ""
    file: str = ""
    doubt: str = ""


def choose(
    preprocess: str | Preprocessing,
    metadata: Mapping[str, str],
    takes: ImageInput,
    files: FilesBeside = _NO_FILES,
) -> Choice:
    """The requested preprocessing. For "auto" that of the metadata, or that of the files beside the model, or
    else an assumed preset.

    UnknownNameError for an unknown preset.
    """
    if isinstance(preprocess, Preprocessing):
        return Choice(preprocess)
    if preprocess != AUTO:
        choice = Choice(PRESETS[preprocess])
    else:
        choice = _choose_automatically(metadata, takes, files)
    if None not in (takes.height, takes.width):
        return choice
    if (size := size_in_metadata(metadata, takes)) is None and files.preprocessing is not None:
        size = _size_for(files.preprocessing[0].preprocessing, takes)
    return choice if size is None else with_settings(choice, size=size)


def _choose_automatically(
    metadata: Mapping[str, str], takes: ImageInput, files: FilesBeside
) -> Choice:
    if (described := from_metadata(metadata)) is not None:
        named = settings_in_metadata(metadata)
        assumed = tuple(name for name in ASSUMABLE[:3] if name not in named)
        return Choice(described, assumed, "in addition to its metadata")
    exported = from_ultralytics(metadata)
    if exported is not None and not exported.assumed:
        return _as_choice(exported, takes, "in addition to its metadata")
    if files.preprocessing is not None:
        return _from_file(*files.preprocessing, takes)
    author = next((metadata[key] for key in _AUTHOR_KEYS if metadata.get(key)), "")
    source = f"; its metadata names {author[:60]!r}" if author else ""
    if exported is not None:
        hint = source or "; its metadata has the keys that they write"
        return _as_choice(exported, takes, f"as Ultralytics prepares them{hint}")
    if (evidence := from_evidence(metadata)) is not None:
        preprocessing, reason = evidence
        return _as_choice(Description(preprocessing, ASSUMABLE), takes, f"{reason}{source}")
    preset = preset_for(takes)
    return Choice(PRESETS[preset], ASSUMABLE, f"the preset {preset}{source}")


def _from_file(description: Description, file: str, takes: ImageInput) -> Choice:
    """The choice that a file beside the model describes; its size is left out."""
    choice = _as_choice(description, takes, f"in addition to {file}")
    return replace(choice, file=file, doubt=_doubt(description.preprocessing, takes))


def _as_choice(description: Description, takes: ImageInput, origin: str) -> Choice:
    """A description as a choice. Models of integers normalize pixels themselves."""
    preprocessing, assumed = replace(description.preprocessing, size=None), description.assumed
    if takes.dtype.kind in "iu":
        raw = PRESETS["raw"]
        preprocessing = replace(preprocessing, scale=raw.scale, mean=raw.mean, std=raw.std)
        assumed = tuple(name for name in ASSUMABLE if name in (*assumed, "scale", "mean", "std"))
    return Choice(preprocessing, assumed, origin)


def _size_for(preprocessing: Preprocessing, takes: ImageInput) -> tuple[int, int] | None:
    """The size of a description, if the model accepts it."""
    size = preprocessing.size
    return None if size is None or _doubt(preprocessing, takes) else size


def _doubt(preprocessing: Preprocessing, takes: ImageInput) -> str:
    """Why a description may be that of another model: the size that it names."""
    fixed = (takes.height, takes.width)
    if preprocessing.size is None or all(
        own in (None, side) for own, side in zip(fixed, preprocessing.size, strict=True)
    ):
        return ""
    names, expects = (
        " x ".join(str(side or "any") for side in size) for size in (preprocessing.size, fixed)
    )
    return f"names {names} pixels, but the model expects {expects}"


def requested_size(
    preprocess: str | Preprocessing, pixels: Mapping[str, Any] | None
) -> tuple[int, int] | None:
    """The size (height, width) that the user names; None if it is left to the model."""
    size = (pixels or {}).get("size")
    named = preprocess.size if isinstance(preprocess, Preprocessing) else None
    return named if size is None else (int(size[0]), int(size[1]))


def with_settings(choice: Choice, **settings: Any) -> Choice:
    """The choice with these settings replaced (see `with_overrides`), which are then no longer assumed."""
    changed = {name for name, value in settings.items() if value is not None}
    assumed = tuple(name for name in choice.assumed if name not in changed)
    preprocessing = with_overrides(choice.preprocessing, **settings)
    return replace(choice, preprocessing=preprocessing, assumed=assumed)


def notice_of(choice: Choice, takes: ImageInput) -> str | None:
    """What a file says or what is assumed about the images, and the options that change it; None if neither."""
    sentences = (_file_sentence(choice), _assumption_sentence(choice, takes))
    return "; ".join(sentence for sentence in sentences if sentence) or None


def _file_sentence(choice: Choice) -> str:
    if not choice.file:
        return ""
    named = [name for name in ASSUMABLE if name not in choice.assumed]
    doubt = f" (it {choice.doubt}: is it of this model?)" if choice.doubt else ""
    return (
        f"images are prepared as {choice.file} beside the model says{doubt}: "
        f"{' '.join(_options(choice, named))}; --preprocess NAME ({', '.join(PRESETS)}) replaces it"
    )


def _assumption_sentence(choice: Choice, takes: ImageInput) -> str:
    settings, options = choice.preprocessing, _options(choice, choice.assumed)
    if takes.channels not in COLORS:
        return (
            f"images cannot be prepared for the {takes.channels} channels of {takes.name!r}; pass arrays that "
            "are preprocessed already: .npy, .npz, or a TIFF with a page per channel"
        )
    size = ""
    if settings.size is None and None in (takes.height, takes.width):
        size = f"--size {_option_text(tensor_size(settings, takes))}"
    if not options:
        return f"the model accepts images of any size; {size} is assumed" if size else ""
    return (
        f"the model does not specify how images are prepared; assumed: {' '.join([*options, size]).strip()} "
        f"({choice.origin}); if it was trained differently, scores and maps are wrong: change these "
        f"options, or choose another --preprocess ({', '.join(PRESETS)})"
    )


def _options(choice: Choice, names: tuple[str, ...] | list[str]) -> list[str]:
    return [f"--{name} {_option_text(getattr(choice.preprocessing, name))}" for name in names]


def _option_text(value: Any) -> str:
    """The value as it is written on the command line."""
    if isinstance(value, str):
        return value
    return ",".join(f"{number:.9g}" for number in (value if isinstance(value, tuple) else (value,)))
