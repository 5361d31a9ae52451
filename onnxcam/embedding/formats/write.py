"""The formats by name: folders in which a file with an explanation is deployed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from onnxcam.embedding.formats.explained_file import Written, require_free
from onnxcam.embedding.formats.triton import write_triton
from onnxcam.embedding.formats.web import find_runtime, write_web
from onnxcam.image.read import read
from onnxcam.registry import Registry


class Deployment(NamedTuple):
    """A folder to write: for a model of this name, with the installed npm packages in `runtime`, and the images
    that a page offers; `force` adds to a folder that has content.
    """

    folder: Path
    name: str
    runtime: Path | None = None
    images: tuple[Path, ...] = ()
    force: bool = False


class Format(NamedTuple):
    """A format: what it is, a check before the explanation is computed, and how a file is written in it.
    `takes_pixels` if only files that prepare pixels themselves fit.
    """

    meaning: str
    check: Callable[[Deployment], None]
    write: Callable[[Path, Deployment], Written]
    takes_pixels: bool = False


def _check_web(to: Deployment) -> None:
    require_free(to.folder, to.force)
    find_runtime(to.runtime)
    for path in to.images:
        read(path)


def _write_web(explained: Path, to: Deployment) -> Written:
    return write_web(explained, to.folder, to.runtime, samples=to.images, force=to.force)


def _check_triton(to: Deployment) -> None:
    require_free(to.folder / to.name, to.force)


def _write_triton(explained: Path, to: Deployment) -> Written:
    return write_triton(explained, to.folder, to.name, force=to.force)


FORMATS: Registry[Format] = Registry("format")
FORMATS.add("web", Format("a page that runs it in the browser", _check_web, _write_web, True))
FORMATS.add("triton", Format("a model repository of Triton", _check_triton, _write_triton))
