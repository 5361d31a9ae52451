"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from onnxcam.errors import OutputError


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
