"""Find the external data files that a model names, and check where they are before anything is opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

from onnxcam.errors import ModelError
from onnxcam.regular_files import file_kind

MAX_SHOWN = 100  # characters of a name in a message


def locate_data(model: Path, location: str, owner: str = "") -> Path:
    """The external data file `location` of the model at the path `model`, links resolved.

    ModelError unless it is a regular file in the model's folder or, if `model` is a link (as in Hugging Face's
    cache), in the folder of the linked file. Nothing is opened: a device or a pipe may have no end. `owner`
    is for the message: what needs the file, for example "tensor 'w'".
    """
    path = _resolve(model, location)
    if isinstance(path, Path):
        return path
    shown = repr(location if len(location) <= MAX_SHOWN else f"{location[:MAX_SHOWN]}...")
    prefix = f"{owner} in " if owner else ""
    raise ModelError(
        f"{model}: external data cannot be read ({prefix}the file {shown}: {path}); "
        "keep the data file next to the model, under its original name"
    )


def _resolve(model: Path, location: str) -> Path | str:
    """The path of the file, or what is wrong with it."""
    if PurePosixPath(location).anchor or PureWindowsPath(location).anchor:
        return "an absolute path; only files in the model's folder are read"
    folders = [Path(os.path.realpath(model.parent)), Path(os.path.realpath(model)).parent]
    try:
        path = Path(os.path.realpath(model.parent / location))
        if not any(path.is_relative_to(folder) for folder in folders):
            return "it is outside the model's folder"
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        return getattr(error, "strerror", None) or str(error)
    return path if stat.S_ISREG(mode) else f"{file_kind(mode)}, not a regular file"
