"""The model and the pictures that come with onnxcam."""

from __future__ import annotations

from pathlib import Path

from onnxcam.errors import ModelError

_PACKAGE = Path(__file__).resolve().parent
PLACES = (_PACKAGE / "models", _PACKAGE.parent / "models")  # in the wheel, and in a checkout


def bundled_model() -> Path:
    """The classifier of simple shapes. ModelError if this installation has none."""
    return _found("shapes.onnx")


def sample_pictures() -> list[Path]:
    """Pictures for the embedded model, sorted. ModelError if this installation has none."""
    found = sorted(_found("samples").glob("*.png"))
    pictures = [each for each in found if not each.stem.endswith(".mask")]
    if not pictures:
        raise _missing("samples/*.png")
    return pictures


def _found(name: str) -> Path:
    for place in PLACES:
        if (place / name).exists():
            return place / name
    raise _missing(name)


def _missing(name: str) -> ModelError:
    places = " or ".join(map(str, PLACES))
    return ModelError(
        f"the embedded {name} is neither in {places}: install onnxcam again, "
        "or use a model and a picture of your own (`onnxcam explain --help`)"
    )
