"""Reading and digesting files. Only regular ones are read: a pipe or a device may block, or never end."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

from onnxcam.digests import digest_bytes

BLOCK = 1 << 22  # bytes that are hashed at once
THREADS = min(8, os.cpu_count() or 1)
T = TypeVar("T")
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def open_regular(path: str | Path) -> BufferedReader:
    """Open a regular file for reading. A pipe, device, or socket, which may block or never end, is refused
    before it is opened, and again after, in case the path changed.

    Raises OSError: IsADirectoryError for a folder, otherwise one that says what the path is.
    """
    _refuse_irregular(path, os.stat(path))  # noqa: PTH116  Path("") is the folder "."
    # a path that turns into a pipe after the check must not block
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _refuse_irregular(path, os.fstat(handle))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def file_kind(mode: int) -> str:
    """The kind of a file that is not a regular file, in words, from its mode."""
    return _KINDS.get(stat.S_IFMT(mode), "a device")


def _refuse_irregular(path: str | Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, f"{file_kind(status.st_mode)}, not a regular file", str(path))


def read_regular(path: Path, largest: int = 1 << 24) -> bytes | None:
    """The content of a small regular file; None if it is missing, not regular, or larger."""
    try:
        with open_regular(path) as file:
            content = file.read(largest + 1)
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return None
    return content if len(content) <= largest else None


def digest_file(path: str | Path) -> str:
    """The SHA-256 of a regular file in hexadecimal digits, read piece by piece. OSError as `open_regular`."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def map_blocks(path: Path, function: Callable[[bytes], T], overlap: int = 0) -> list[T]:
    """The results of a function for each block of `BLOCK` bytes of a regular file, with up to `overlap` bytes
    of the next one. Hashing lets other threads run, so blocks run in parallel. OSError as `open_regular`.
    """

    def read(start: int) -> T:
        with open_regular(path) as stream:
            stream.seek(start)
            return function(stream.read(BLOCK + overlap))

    starts = range(0, max(1, path.stat().st_size), BLOCK)
    if len(starts) > 1:
        with suppress(RuntimeError), ThreadPoolExecutor(min(THREADS, len(starts))) as threads:
            return list(threads.map(read, starts))
    return list(map(read, starts))  # also if the system has no threads left


def digest_blocks(path: Path) -> str:
    """The SHA-256 of the SHA-256s of a regular file's blocks, computed on all processors."""
    return join_digests(map_blocks(path, block_digest))


def block_digest(content: bytes) -> bytes:
    """The SHA-256 of one block."""
    return hashlib.sha256(memoryview(content)[:BLOCK]).digest()  # a slice of bytes is a copy


def join_digests(digests: Iterable[bytes]) -> str:
    """The digest of a file from those of its blocks."""
    return digest_bytes(b"".join(digests))
