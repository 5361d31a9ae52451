"""Which files a model consists of, and digests of what they hold. They are read once, without onnx and without
parsing, in blocks on all cores.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from onnxcam.digests import digest_bytes
from onnxcam.errors import ModelError
from onnxcam.model.data_files import locate_data
from onnxcam.regular_files import BLOCK, block_digest, digest_blocks, join_digests, map_blocks

MAX_TOTAL_BYTES = 1 << 32  # bytes of all files of a model; beyond it they are not read for a digest
# A field of `external_data` in a protocol buffer: key (field 1) "location", value (field 2)
LOCATION = b"\x0a\x08location"
VALUE, LONGEST = 0x12, 127  # a longer value has a length of more than one byte


class ModelFiles(NamedTuple):
    """What identifies a model: the name and digest of its own file, and the digests of its external data files
    by name. `state` changes when a file is replaced, even by the same bytes.
    """

    name: str
    digest: str
    data: dict[str, str]
    state: tuple[tuple[int, ...], ...]


def identify_files(model: object) -> ModelFiles | None:
    """The files of a model, which is a path or bytes. None if they can be read only once (a pipe) or not at
    all, or if it is unclear which files these are: loading the model then raises a better error.
    """
    try:
        if isinstance(model, bytes):
            if external_locations(model):
                return None  # relative to no known folder
            return ModelFiles("model", digest_bytes(model), {}, ())
        return _identify_path(Path(model)) if isinstance(model, (str, Path)) else None
    except (OSError, ValueError, ModelError):
        return None


def _identify_path(path: Path) -> ModelFiles:
    """OSError, ValueError or ModelError if the files are not known."""
    state = [_file_state(path)]
    blocks = map_blocks(path, _scan_block, len(LOCATION) + LONGEST + 2)
    names = sorted({name for _, locations in blocks for name in locations})
    paths = {name: locate_data(path, name) for name in names}
    state += map(_file_state, paths.values())
    if sum(size for _, size, *_ in state) > MAX_TOTAL_BYTES:
        raise ValueError("too large for the cache")
    data = {name: digest_blocks(file) for name, file in paths.items()}
    return ModelFiles(path.name, join_digests(digest for digest, _ in blocks), data, tuple(state))


def _file_state(path: Path) -> tuple[int, ...]:
    """A value that changes when a file is written to or replaced, even by the same bytes."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _scan_block(content: bytes) -> tuple[bytes, list[str]]:
    """The digest of a block, and the external data files whose names begin in it."""
    return block_digest(content), external_locations(content, BLOCK)


def external_locations(content: bytes, stop: int | None = None) -> list[str]:
    """The external data files that a model names before the offset `stop`, without parsing it. ValueError if
    one is encoded in an unusual way.
    """
    names = []
    start = content.find(LOCATION)
    while start >= 0 and (stop is None or start < stop):
        end = start + len(LOCATION)
        value = content[end : end + LONGEST + 2]
        if len(value) < 2 or value[0] != VALUE or value[1] > LONGEST:
            raise ValueError("the location of external data is encoded in an unusual way")
        names.append(value[2 : 2 + value[1]].decode())
        start = content.find(LOCATION, end)
    return names
