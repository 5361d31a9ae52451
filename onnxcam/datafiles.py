"""Files that a model names, its external data: where they may lie, checked before anything is opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

from onnxcam.errors import ModelError

LONGEST_SHOWN = 100  # characters of a name that a message repeats


def locate_data(model: Path, location: str, owner: str = "") -> Path:
    """The file of external data that the model at the path `model` names `location`, links resolved.

    ModelError unless it is a regular file in the model's folder, or in the folder that the model's file really
    lies in where `model` is a link (as in the cache of Hugging Face). Nothing is opened: a device or
    a pipe could not be read to its end. `owner` names in the message who asks: "tensor 'w'".
    """
    problem = _problem(model, location)
    if isinstance(problem, Path):
        return problem
    shown = repr(location if len(location) <= LONGEST_SHOWN else f"{location[:LONGEST_SHOWN]}...")
    raise ModelError(
        f"{model}: external data cannot be read ({f'{owner} in ' * bool(owner)}the file {shown}: "
        f"{problem}); keep the data file beside the model, under its old name"
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
    return path if stat.S_ISREG(mode) else f"{_kind(mode)}, not a regular file"


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
