"""Writing files completely or not at all, and removing the unfinished files of interrupted runs."""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import stat
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

from onnxcam.digests import digest_bytes
from onnxcam.errors import OutputError
from onnxcam.regular_files import file_kind, read_regular

ABANDONED = 3600  # seconds after which an unfinished file counts as abandoned
UNFINISHED_NAME = re.compile(r"\.onnxcam-([0-9a-f]{8})-([0-9]{1,9})-[0-9a-f]{12}(\..*)?", re.DOTALL)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A file next to `path` to write to, which is renamed to `path` when it is complete.

    OutputError if it cannot be written, or if `path` is a folder, a device or a pipe, which is not replaced; no
    unfinished file is left.
    """
    temporary = unfinished_path(path)
    with _output_errors(path):
        _require_replaceable(path)
        try:
            _create(temporary)
            yield temporary
            temporary.replace(path)
        finally:
            discard(temporary)


def atomic_write_all(
    contents: Mapping[Path, bytes],
    manifest: Path,
    complete: bytes,
    unfinished: bytes,
    outdated: Collection[Path] = (),
) -> None:
    """Write several files and their manifest, and remove the `outdated` ones, all of them or none: if that
    fails, the old files stay.

    The manifest is renamed last. While the others are replaced, the manifest says `unfinished`: a run that is
    killed leaves no manifest, old or new, that claims the files are complete. OutputError names the file that
    cannot be written.
    """
    claim = unfinished_path(manifest)
    temporaries = {path: unfinished_path(path) for path in (*contents, manifest)}
    backups = {path: unfinished_path(path) for path in (*contents, *outdated, manifest)}
    with ExitStack() as stack:
        for temporary in (claim, *temporaries.values(), *backups.values()):
            stack.callback(discard, temporary)
        for path, content in {**contents, manifest: complete}.items():
            _fill(temporaries[path], content, path)
        _fill(claim, unfinished, manifest)
        if (old := read_regular(manifest)) is not None:
            _fill(backups[manifest], old, manifest)
        try:
            _replace(claim, manifest)
            for path in contents:
                _back_up(path, backups[path])
                _replace(temporaries[path], path)
            for path in outdated:
                _back_up(path, backups[path])
            _replace(temporaries[manifest], manifest)
        except BaseException:
            if temporaries[manifest].exists():  # it was not renamed: the last step is missing
                _restore({**temporaries, manifest: claim}, backups)
            raise


def _restore(temporaries: Mapping[Path, Path], backups: Mapping[Path, Path]) -> None:
    """Put back what was replaced, the manifest last. A file was replaced if its temporary file is missing: the
    interruption may have come before or after a rename.
    """
    with suppress(OSError):  # the manifest then says `unfinished`
        for path, backup in backups.items():
            if backup.exists():
                backup.replace(path)
            elif path in temporaries and not temporaries[path].exists():
                path.unlink(missing_ok=True)


def unfinished_path(path: Path) -> Path:
    """A new path next to `path` for an unfinished file. Its name has the machine and process that write it."""
    return path.with_name(f".onnxcam-{_machine()}-{os.getpid()}-{uuid4().hex[:12]}{path.suffix}")


def sweep(folder: Path) -> None:
    """Remove unfinished files from a folder: those of processes that ended, and old ones."""
    with suppress(OSError), os.scandir(folder) as listing:
        for path in [Path(file.path) for file in listing if UNFINISHED_NAME.fullmatch(file.name)]:
            if _is_abandoned(path):
                discard(path)


def discard(path: Path) -> None:
    """Remove a file, or a folder with all its content, as far as possible."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        shutil.rmtree(path, ignore_errors=True)  # does nothing unless it is a folder


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


def _require_replaceable(path: Path) -> None:
    """OSError for what a rename would destroy or cannot replace: all that exists and is no regular file."""
    with suppress(FileNotFoundError, NotADirectoryError):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, f"{file_kind(mode)}, not a regular file")


def _create(temporary: Path) -> None:
    """Create an empty file with the default permissions: the system applies the umask of the process."""
    temporary.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(temporary.parent)
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


def _fill(temporary: Path, content: bytes, path: Path) -> None:
    with _output_errors(path):
        _sweep_once(temporary.parent)
        try:
            temporary.write_bytes(content)
        except FileNotFoundError:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)


def _replace(temporary: Path, path: Path) -> None:
    with _output_errors(path):
        _require_replaceable(path)
        temporary.replace(path)


def _back_up(path: Path, backup: Path) -> None:
    with _output_errors(path), suppress(FileNotFoundError):
        _require_replaceable(path)
        path.replace(backup)


@lru_cache(maxsize=256)
def _sweep_once(folder: Path) -> None:
    sweep(folder)


def _is_abandoned(path: Path) -> bool:
    match = UNFINISHED_NAME.fullmatch(path.name)
    try:
        is_old = time.time() - path.lstat().st_mtime > ABANDONED
    except OSError:
        return False  # gone
    return match is not None and (
        is_old or (match[1] == _machine() and not _is_alive(int(match[2])))
    )


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
