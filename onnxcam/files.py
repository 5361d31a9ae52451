"""Files: read only where they are regular, written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from pathlib import Path

from onnxcam.errors import OutputError

_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def open_regular(path: str | Path) -> BufferedReader:
    """Open a regular file for reading. A pipe, device or socket, which may never end or never begin,
    is refused before it is opened, and once more by what was opened.

    Raises OSError: of a folder IsADirectoryError, of a pipe and its kind one that says what it is.
    """
    _refuse_irregular(path, os.stat(path))  # noqa: PTH116  Path("") is the folder "."
    # a path that becomes a pipe after it was looked at must not block
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _refuse_irregular(path, os.fstat(handle))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _refuse_irregular(path: str | Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a device")
        raise OSError(errno.EINVAL, f"{kind}, not a regular file", str(path))


def digest_file(path: str | Path) -> str:
    """The SHA-256 of a regular file in hexadecimal digits, read piece by piece. OSError as `open_regular`."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, renamed to `path` when all of it is there.

    OutputError, with nothing left behind, where the folder or the disk does not take it.
    """
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix
        )
        os.close(handle)
        part = Path(name)
        yield part
        part.chmod(0o666 & ~_umask())
        part.replace(path)
    except OSError as fault:
        raise OutputError(f"{path}: cannot be written ({fault.strerror or fault})") from fault
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files, all of them or none. OutputError names the one that could not be written."""
    with ExitStack() as stack:
        for path, content in contents.items():
            stack.enter_context(written(path)).write_bytes(content)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
