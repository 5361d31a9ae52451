"""Entries of the cache, stored and listed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from onnxcam.explain import cache


def writing(content: bytes, name: str = "content") -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None  # type: ignore[return-value]


def keep(name: str, size: int = 1000) -> Path | None:
    return cache.store(name, writing(b"x" * size))


def names(folder: Path) -> set[str]:
    """Entries, and whatever else lies among them."""
    return {each.name for each in (folder / "models").iterdir()}
