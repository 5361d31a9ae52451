"""The models and the images that come with onnxcam."""

from __future__ import annotations

from pathlib import Path

from onnxcam.errors import ModelError

_PACKAGE = Path(__file__).resolve().parent
FOLDERS = (_PACKAGE / "models", _PACKAGE.parent / "models")  # in the wheel, and in a checkout


def bundled_model() -> Path:
    """The classifier of simple shapes. ModelError if this installation has none."""
    return _find_bundled("shapes.onnx")


def sample_images() -> list[Path]:
    """Images for the bundled model, sorted. ModelError if this installation has none."""
    paths = sorted(_find_bundled("samples").glob("*.png"))
    images = [path for path in paths if not path.stem.endswith(".mask")]
    if not images:
        raise _missing_error("samples/*.png")
    return images


def bundled_detector() -> Path:
    """The detector of simple shapes. ModelError if this installation has none."""
    return _find_bundled("shapes-detector.onnx")


def bundled_explained_model() -> Path:
    """The classifier with its explanation inside. ModelError if this installation has none."""
    return _find_bundled("shapes-explained.onnx")


def detector_image() -> Path:
    """An image for the bundled detector. ModelError if this installation has none."""
    return _find_bundled("detector/scene.png")


def _find_bundled(name: str) -> Path:
    for folder in FOLDERS:
        if (folder / name).exists():
            return folder / name
    raise _missing_error(name)


def _missing_error(name: str) -> ModelError:
    folders = " and ".join(map(str, FOLDERS))
    return ModelError(
        f"the bundled {name} is missing (searched {folders}); install onnxcam again, "
        "or use your own model and image (`onnxcam explain --help`)"
    )
