"""Which files are the images to explain, and what their results are called."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from onnxcam.errors import ImageError
from onnxcam.explain.result_files import INVERT, SCAN, VISUALIZE, is_result
from onnxcam.methods import METHODS
from onnxcam.unique_names import fold_case, make_unique

MAX_LISTED = 5  # names of files in one line
KINDS = "|".join(map(re.escape, (*METHODS, SCAN, VISUALIZE, INVERT)))
RESULT_NAME = re.compile(
    rf"(?s)(?P<result>.+\.({KINDS}))((\.\d+|\.channels)?|(?P<checkpoint>(\.[\w+-]+)?\.checkpoint))\.\w+"
)
SYSTEM_FILES = {"thumbs.db", "desktop.ini"}  # written by Windows, not by the user


def collect_images(
    paths: Sequence[Path], *, recursive: bool, out: Path
) -> tuple[list[Path], list[str]]:
    """The named files and the images in folders, sorted and without duplicates, and notices about other files.

    Results of earlier runs, which may lie in the same folder, do not count as images. ImageError if there
    are no images, or for a folder that cannot be listed.
    """
    images: dict[Path, Path] = {}
    notices = []
    for path in paths:
        image_paths, other_files = (
            _split_by_suffix(path, recursive, out) if _is_folder(path) else ([path], [])
        )
        if not image_paths:
            recursion_hint = "" if recursive else " (--recursive searches its subfolders)"
            notices.append(f"{path}: no images in this folder{recursion_hint}")
        if other_files:
            notices.append(_skipped_files(path, other_files))
        for image in image_paths:
            images.setdefault(_absolute(image), image)
    if not images:
        raise ImageError("; ".join(notices) or "there are no images to explain; name at least one")
    return list(images.values()), notices


def require_files(paths: Sequence[Path]) -> None:
    """ImageError for the first of the named files and folders that is not there."""
    from onnxcam.image.read_array import file_of

    for path in paths:
        if not os.path.lexists(file_of(path)):
            raise ImageError(f"{path}: no such file or folder; check the path")


def _split_by_suffix(folder: Path, recursive: bool, out: Path) -> tuple[list[Path], list[Path]]:
    """The images in a folder, by their names, and the other files. Arrays are images if there are no others."""
    from onnxcam.image.read import readable_suffixes
    from onnxcam.image.read_array import SUFFIXES

    files = [path for path in _list_files(folder, recursive) if not _is_result(path, folder, out)]
    images = _with_suffix(files, readable_suffixes()) or _with_suffix(files, SUFFIXES)
    other_files = set(files) - set(images)
    return images, [path for path in files if path in other_files]


def _with_suffix(files: Sequence[Path], suffixes: Collection[str]) -> list[Path]:
    return [path for path in files if path.suffix.lower() in suffixes and _is_file(path)]


def _list_files(folder: Path, recursive: bool) -> list[Path]:
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


def _skipped_files(folder: Path, other_files: Sequence[Path]) -> str:
    listed = ", ".join(str(path.relative_to(folder)) for path in other_files[:MAX_LISTED])
    rest = f" and {len(other_files) - MAX_LISTED} more" if len(other_files) > MAX_LISTED else ""
    files = f"{len(other_files)} file{'s' if len(other_files) > 1 else ''}"
    return f"{folder}: skipped {files} without an image file extension: {listed}{rest}"


def _is_result(path: Path, folder: Path, out: Path) -> bool:
    is_in_output_folder = out.resolve() != folder.resolve() and path.resolve().is_relative_to(
        out.resolve()
    )
    return is_in_output_folder or _is_named_as_result(path) or is_result(path)


def _is_named_as_result(path: Path) -> bool:
    """Whether a file has the name of a checkpoint, or of a part of the result whose manifest is beside it. That
    may be a part that a later run did not write again, so that the manifest does not list it.
    """
    match = RESULT_NAME.fullmatch(path.name)
    if match is None:
        return False
    return bool(match["checkpoint"]) or _is_file(path.with_name(f"{match['result']}.json"))


def result_names(images: Sequence[Path]) -> list[str]:
    """A name for the results of each image: its stem, or as much of its path as distinguishes it. Those of
    x.npz:key have a dash before the key.
    """
    from onnxcam.image.read_array import key_of

    groups: dict[str, list[Path]] = {}
    for path in images:
        groups.setdefault(fold_case(path.stem), []).append(path)
    names = {path: name for group in groups.values() for path, name in _distinct_names(group)}
    keyed = {path: names[path].replace(".npz:", "-") for path in images if key_of(path)}
    return make_unique({**names, **keyed}[path] for path in images)


def _distinct_names(group: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Images with the same stem, each with the shortest end of its path that no other one has."""
    if len(group) == 1:
        return iter([(group[0], group[0].stem)])
    paths = [_absolute(path).parts[1:] for path in group]
    for depth in range(1, max(map(len, paths)) + 1):
        ends = ["-".join(parts[-depth:]) for parts in paths]
        if len({fold_case(end) for end in ends}) == len(group):
            return zip(group, ends, strict=True)
    return ((path, path.name) for path in group)


# pathlib's is_dir and is_file raise if a parent folder may not be entered or a name is too long. One such
# path must not stop the others, and reading it gives a better error.


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113


def _absolute(path: Path) -> Path:
    """The path without `..`. Links are not followed: two links to one image are two images."""
    return Path(os.path.abspath(path))  # noqa: PTH100  resolve() follows links


def target_suffixes(targets: Sequence[str]) -> list[str]:
    """What each target adds to the name of a result: nothing if there is only one."""
    if len(targets) == 1:
        return [""]
    suffixes = (re.sub(r"[^\w+-]+", "-", target).strip("-") or "target" for target in targets)
    return [f".{name}" for name in make_unique(suffixes)]
