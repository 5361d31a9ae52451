"""Which pictures are meant, and what their results are called."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from onnxcam.errors import ImageError
from onnxcam.methods import METHODS

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


def found(given: Sequence[Path], *, recursive: bool, out: Path) -> list[Path]:
    """The files as given and the pictures in folders, sorted, each once. ImageError for a folder without.

    Results of earlier runs, which may lie in the same folder, are no pictures of a folder's.
    """
    pictures: dict[Path, Path] = {}
    for each in given:
        listed = _within(each, recursive, out) if each.is_dir() else [each]
        if not listed:
            deeper = "" if recursive else " (--recursive looks into the folders in it)"
            raise ImageError(f"{each}: no pictures in this folder{deeper}")
        for path in listed:
            pictures.setdefault(_absolute(path), path)
    return list(pictures.values())


def _within(folder: Path, recursive: bool, out: Path) -> list[Path]:
    return sorted(
        each
        for each in (folder.rglob("*") if recursive else folder.iterdir())
        if each.suffix.lower() in SUFFIXES
        and not each.name.startswith(".")
        and each.is_file()
        and not _is_result(each, folder, out)
    )


def _is_result(path: Path, folder: Path, out: Path) -> bool:
    inside = out.resolve() != folder.resolve() and path.resolve().is_relative_to(out.resolve())
    method = Path(path.stem).suffix.removeprefix(".")
    return inside or (method in METHODS and path.with_suffix(".json").is_file())


def names(pictures: Sequence[Path]) -> list[str]:
    """A name for each picture's results: its stem, or as much of its path as tells it from the others."""
    alike: dict[str, list[Path]] = {}
    for each in pictures:
        alike.setdefault(_folded(each.stem), []).append(each)
    found = {path: own for group in alike.values() for path, own in _told_apart(group)}
    return list(_numbered(found[each] for each in pictures))


def _told_apart(group: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Pictures of one stem, each with the shortest end of its path that none of the others has."""
    if len(group) == 1:
        return iter([(group[0], group[0].stem)])
    parts = [_absolute(each).parts[1:] for each in group]
    for depth in range(1, max(map(len, parts)) + 1):
        ends = ["-".join(each[-depth:]) for each in parts]
        if len({_folded(each) for each in ends}) == len(group):
            return zip(group, ends, strict=True)
    return ((each, each.name) for each in group)


def _absolute(path: Path) -> Path:
    """Without `..`, links as they are called: two links to one picture are two pictures."""
    return Path(os.path.abspath(path))  # noqa: PTH100  resolve() follows links


def _folded(name: str) -> str:
    """As file systems see it that do not tell capitals."""
    return name.casefold()


def slugs(targets: Sequence[str]) -> list[str]:
    """What each target adds to a name: nothing if there is but one."""
    if len(targets) == 1:
        return [""]
    plain = (re.sub(r"[^\w+-]+", "-", each).strip("-") or "target" for each in targets)
    return [f".{each}" for each in _numbered(plain)]


def _numbered(names: Iterable[str]) -> Iterator[str]:
    taken: set[str] = set()
    for name in names:
        own, number = name, 1
        while _folded(own) in taken:
            number += 1
            own = f"{name}-{number}"
        taken.add(_folded(own))
        yield own
