"""Functions that store cache entries and list them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from onnxcam.explain import cache


def writing(content: bytes, name: str = "content") -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None  # type: ignore[return-value]


def keep(name: str, size: int = 1000) -> Path | None:
    return cache.store(name, writing(b"x" * size))


def names(folder: Path) -> set[str]:
    """The names of all files in the folder of the entries."""
    return {path.name for path in (folder / "models").iterdir()}
