"""Which pictures are meant, and what their results are called."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from onnxcam.errors import ImageError
from onnxcam.methods import METHODS

SHOWN = 5  # names of files in one line
SYSTEM_FILES = {"thumbs.db", "desktop.ini"}  # written by Windows, not by the user


def collect_images(
    paths: Sequence[Path], *, recursive: bool, out: Path
) -> tuple[list[Path], list[str]]:
    """The files as given and the images in folders, sorted, each once, and notices about files left out.

    Results of earlier runs, which may lie in the same folder, do not count as images. ImageError if there
    are no images, or for a folder that cannot be listed.
    """
    images: dict[Path, Path] = {}
    notices = []
    for path in paths:
        listed, others = _split(path, recursive, out) if _is_folder(path) else ([path], [])
        if not listed:
            deeper = "" if recursive else " (--recursive searches its subfolders)"
            notices.append(f"{path}: no images in this folder{deeper}")
        if others:
            notices.append(_left_out(path, others))
        for image in listed:
            images.setdefault(_absolute(image), image)
    if not images:
        raise ImageError("; ".join(notices) or "no image was given")
    return list(images.values()), notices


def _split(folder: Path, recursive: bool, out: Path) -> tuple[list[Path], list[Path]]:
    """The images in a folder, by their names, and the other files."""
    from onnxcam.image.read import readable_suffixes

    suffixes = readable_suffixes()
    files = [path for path in _listed(folder, recursive) if not _is_result(path, folder, out)]
    images = [path for path in files if path.suffix.lower() in suffixes and _is_file(path)]
    taken = set(images)
    return images, [path for path in files if path not in taken]


def _listed(folder: Path, recursive: bool) -> list[Path]:
    """The files in a folder that are not hidden, sorted."""
    try:
        paths = list(folder.rglob("*") if recursive else folder.iterdir())
    except OSError as error:
        raise ImageError(
            f"{folder}: the folder cannot be listed ({error.strerror}); check its permissions"
        ) from error
    return sorted(
        path
        for path in paths
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.name.lower() not in SYSTEM_FILES
        and not _is_folder(path)
    )


def _left_out(folder: Path, others: Sequence[Path]) -> str:
    shown = ", ".join(str(path.relative_to(folder)) for path in others[:SHOWN])
    more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    files = f"{len(others)} file{'s' if len(others) > 1 else ''}"
    return f"{folder}: {files} left out, not named like an image that can be read: {shown}{more}"


def _is_result(path: Path, folder: Path, out: Path) -> bool:
    inside = out.resolve() != folder.resolve() and path.resolve().is_relative_to(out.resolve())
    method = Path(path.stem).suffix.removeprefix(".")
    return inside or (method in METHODS and _is_file(path.with_suffix(".json")))


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


# pathlib's is_dir and is_file raise if a parent folder may not be entered or a name is too long. One such
# path must not stop the others, and reading it gives a better error.


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113


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
