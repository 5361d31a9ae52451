"""Writing files completely or not at all, and removing the unfinished files of interrupted runs."""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

from onnxcam.digests import digest_bytes
from onnxcam.errors import OutputError
from onnxcam.regular_files import read_regular

ABANDONED = 3600  # seconds after which an unfinished file counts as abandoned
PART = re.compile(r"\.onnxcam-([0-9a-f]{8})-([0-9]{1,9})-[0-9a-f]{12}(\..*)?", re.DOTALL)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A file next to `path` to write to, which is renamed to `path` when it is complete.

    OutputError if it cannot be written; no unfinished file is left.
    """
    part = part_of(path)
    with _output_errors(path):
        try:
            _create(part)
            yield part
            part.replace(path)
        finally:
            discard(part)


def atomic_write_all(
    contents: Mapping[Path, bytes], manifest: Path, complete: bytes, unfinished: bytes
) -> None:
    """Write several files and their manifest, all of them or none: if that fails, the old files stay.

    The manifest is renamed last. While the others are replaced, the manifest says `unfinished`: a run that is
    killed leaves no manifest, old or new, that claims the files are complete. OutputError names the file that
    cannot be written.
    """
    claim = part_of(manifest)
    parts = {path: part_of(path) for path in (*contents, manifest)}
    backups = {path: part_of(path) for path in (*contents, manifest)}
    with ExitStack() as stack:
        for part in (claim, *parts.values(), *backups.values()):
            stack.callback(discard, part)
        for path, content in {**contents, manifest: complete}.items():
            _fill(parts[path], content, path)
        _fill(claim, unfinished, manifest)
        if (old := read_regular(manifest)) is not None:
            _fill(backups[manifest], old, manifest)
        try:
            _replace(claim, manifest)
            for path in contents:
                _set_aside(path, backups[path])
                _replace(parts[path], path)
            _replace(parts[manifest], manifest)
        except BaseException:
            if parts[manifest].exists():  # it was not renamed: the last step is missing
                _restore({**parts, manifest: claim}, backups)
            raise


def _restore(parts: Mapping[Path, Path], backups: Mapping[Path, Path]) -> None:
    """Put back what was replaced, the manifest last. A missing part means that its file was replaced: the
    interruption may have come before or after a rename.
    """
    with suppress(OSError):  # the manifest then says `unfinished`
        for path, part in parts.items():
            if backups[path].exists():
                backups[path].replace(path)
            elif not part.exists():
                path.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """A new path next to `path` for an unfinished file. Its name has the machine and process that write it."""
    return path.with_name(f".onnxcam-{_machine()}-{os.getpid()}-{uuid4().hex[:12]}{path.suffix}")


def sweep(folder: Path) -> None:
    """Remove unfinished files from a folder: those of processes that ended, and old ones."""
    with suppress(OSError), os.scandir(folder) as listing:
        for path in [Path(file.path) for file in listing if PART.fullmatch(file.name)]:
            if _is_abandoned(path):
                discard(path)


def discard(part: Path) -> None:
    """Remove a file, or a folder with all its content, as far as possible."""
    try:
        part.unlink(missing_ok=True)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)  # does nothing unless it is a folder


def remove(path: Path) -> None:
    """Remove a file, if it exists. OutputError if that fails."""
    with _output_errors(path):
        path.unlink(missing_ok=True)


@contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error


def _create(part: Path) -> None:
    """Create an empty file with the default permissions: the system applies the umask of the process."""
    part.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(part.parent)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


def _fill(part: Path, content: bytes, path: Path) -> None:
    with _output_errors(path):
        _sweep_once(part.parent)
        try:
            part.write_bytes(content)
        except FileNotFoundError:
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)


def _replace(part: Path, path: Path) -> None:
    with _output_errors(path):
        part.replace(path)


def _set_aside(path: Path, backup: Path) -> None:
    with _output_errors(path), suppress(FileNotFoundError):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.replace(backup)


@lru_cache(maxsize=256)
def _sweep_once(folder: Path) -> None:
    sweep(folder)


def _is_abandoned(part: Path) -> bool:
    match = PART.fullmatch(part.name)
    try:
        old = time.time() - part.lstat().st_mtime > ABANDONED
    except OSError:
        return False  # gone
    return match is not None and (old or (match[1] == _machine() and not _is_alive(int(match[2]))))


def _is_alive(process: int) -> bool:
    """Whether the process exists on this machine; true if that cannot be found out."""
    if os.name == "nt":  # there, signal 0 would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # of another user
    return True


@lru_cache(maxsize=1)
def _machine() -> str:
    """An identifier of the machine, or of the container, which has process numbers of its own."""
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        space = ""
    return digest_bytes(f"{platform.node()} {space}".encode())[:8]
