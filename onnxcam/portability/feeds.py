"""Random values for the inputs of a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxcam.arrays import Array
from onnxcam.errors import ModelError, SettingError
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session

FREE_SIDE = 64  # the size of a free axis that is not the batch
TARGET, TOP = (
    "target",
    -1,
)  # the input of an embedded explanation, and the class of the highest score
ANY_INTEGER = (
    2  # below it lie the integers of inputs whose meaning is unknown: every table has so many rows
)


def random_feeds(session: Session, batch: int, seed: int) -> dict[str, Array]:
    """Values for all inputs: the same for the same seed. Free batches become `batch`.

    ModelError for an input of a type that NumPy lacks.
    """
    generator = np.random.default_rng(seed)
    return {
        name: _random(name, session.dtypes[name], _sizes(shape, batch), generator)
        for name, shape in session.shapes.items()
    }


def fill_feeds(
    path: Path, chosen: Mapping[str, Array] | None, batch: int, seed: int
) -> tuple[dict[str, Array], list[str]]:
    """The feeds of a file, random where none are given, and the names of its outputs. SettingError for a name
    that the file does not have.
    """
    session = Session(path, Device("cpu"))
    feeds = random_feeds(session, batch, seed)
    for name, array in (chosen or {}).items():
        if name not in feeds:
            raise SettingError(f"{path.name} has no input {name!r}; its inputs: {', '.join(feeds)}")
        feeds[name] = np.asarray(array, feeds[name].dtype)
    return feeds, session.outputs


def _sizes(shape: list[Any], batch: int) -> list[int]:
    return [
        size if isinstance(size, int) else FREE_SIDE if axis else batch
        for axis, size in enumerate(shape)
    ]


def _random(
    name: str, dtype: np.dtype[Any] | None, shape: list[int], generator: np.random.Generator
) -> Array:
    if dtype is None:
        raise ModelError(f"the input {name!r} has a type that NumPy lacks; no values can be drawn")
    if name == TARGET and dtype.kind == "i":
        return np.full(shape, TOP, dtype)
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(dtype)
    is_pixels = dtype.itemsize == 1 and len(shape) == len("NCHW")
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max + 1) if is_pixels else (0, ANY_INTEGER)
    return generator.integers(low, high, shape).astype(dtype)
