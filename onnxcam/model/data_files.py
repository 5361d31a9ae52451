"""The external data files that a model names: where they lie is checked before anything is opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

from onnxcam.atomic_write import kind_of
from onnxcam.errors import ModelError

LONGEST_SHOWN = 100  # characters of a name in a message


def locate_data(model: Path, location: str, owner: str = "") -> Path:
    """The external data file that the model at the path `model` calls `location`, links resolved.

    ModelError unless it is a regular file in the model's folder or, if `model` is a link (as in Hugging Face's
    cache), in the folder of the linked file. Nothing is opened: a device or a pipe may have no end. `owner`
    says in the message what needs the file: "tensor 'w'".
    """
    problem = _problem(model, location)
    if isinstance(problem, Path):
        return problem
    shown = repr(location if len(location) <= LONGEST_SHOWN else f"{location[:LONGEST_SHOWN]}...")
    raise ModelError(
        f"{model}: external data cannot be read ({f'{owner} in ' * bool(owner)}the file {shown}: "
        f"{problem}); keep the data file next to the model, under its original name"
    )


def _problem(model: Path, location: str) -> Path | str:
    """The file, or what is wrong with it."""
    if PurePosixPath(location).anchor or PureWindowsPath(location).anchor:
        return "an absolute path; only files in the model's folder are read"
    folders = [Path(os.path.realpath(model.parent)), Path(os.path.realpath(model)).parent]
    try:
        path = Path(os.path.realpath(model.parent / location))
        if not any(path.is_relative_to(folder) for folder in folders):
            return "it is outside of the model's folder"
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        return getattr(error, "strerror", None) or str(error)
    return path if stat.S_ISREG(mode) else f"{kind_of(mode)}, not a regular file"
