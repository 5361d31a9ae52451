"""What is kept on disk from one run to the next: models that are ready to run, and small choices.

The folder is $ONNXCAM_CACHE, or `onnxcam` in the user's folder for caches. An entry is a folder of files
that is there whole or not at all: it is written beside, told of in `entry.json`, and renamed. Several
processes may read, write and empty the cache at once. A disk that is full or closed is no error: nothing is
kept then.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from onnxcam.errors import OutputError
from onnxcam.files import written

LIMIT = 2_000_000_000  # bytes of all models together, unless $ONNXCAM_CACHE_SIZE says it
CHOICES = 1000  # files of choices at most
ABANDONED = 3600  # seconds after which a half-written entry is nobody's any more
BLOCK = 1 << 22
TOLD = "entry.json"
WINDOWS = sys.platform == "win32"


def folder() -> Path:
    """Where things are kept; it need not exist."""
    variable, usual = (
        ("LOCALAPPDATA", "~/AppData/Local") if WINDOWS else ("XDG_CACHE_HOME", "~/.cache")
    )
    of_user = Path(os.environ.get(variable) or usual) / "onnxcam"
    try:
        return Path(os.environ.get("ONNXCAM_CACHE") or of_user).expanduser()
    except RuntimeError:  # a user without a home, as in many containers
        return Path(os.devnull) / "onnxcam"  # where nothing can be kept


def limit() -> int:
    """How many bytes the models may take; 0 keeps none."""
    try:
        return max(0, int(float(os.environ["ONNXCAM_CACHE_SIZE"])))
    except (KeyError, ValueError, OverflowError):
        return LIMIT


def key(parts: Mapping[str, Any]) -> str:
    """One name for everything that an entry depends on: the SHA-256 of the parts as JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def found(name: str) -> Path | None:
    """The folder of an entry, which counts as used now; None where there is none that is whole."""
    entry = _models() / name
    try:
        told = json.loads((entry / TOLD).read_bytes())
        if told != {"name": name, "files": _sums(entry)}:
            return None
    except (OSError, ValueError):
        return None
    with suppress(OSError):  # in a folder that may only be read
        os.utime(entry / TOLD)
    return entry


def kept(name: str, write: Callable[[Path], None]) -> Path | None:
    """The folder of a new entry, whose files `write` puts into the folder that it is given; the oldest entries
    make room for it. None where it could not be kept: no place, or larger than the limit.
    """
    if not limit():
        return None
    part = _beside()
    try:
        part.mkdir(parents=True)
        write(part)
        told = json.dumps({"name": name, "files": _sums(part)})
        (part / TOLD).write_text(told, encoding="utf-8")
        if _size(part) > limit():
            return None
        entry = _placed(part, _models() / name)
        _make_room(entry)
    except OSError:
        return None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return entry


def size() -> int:
    """Bytes of everything that is kept."""
    return _size(folder())


def remembered(name: str, what: str) -> Any:
    """The JSON value that was remembered of `what` under the name; None where nothing was."""
    return _choices(name).get(what)


def remember(name: str, what: str, value: Any) -> None:
    """Keep a small JSON value, for `remembered`. Of two processes that write at once one may be forgotten."""
    text = json.dumps({**_choices(name), what: value})
    try:
        with written(_choice_file(name)) as path:
            path.write_text(text, encoding="utf-8")
        old = sorted(_choice_file(name).parent.glob("*.json"), key=_used)[:-CHOICES]
        for each in old:
            each.unlink(missing_ok=True)
    except (OSError, OutputError):
        return


def _models() -> Path:
    return folder() / "models"


def _beside() -> Path:
    """A new name that is no entry's."""
    return _models() / f".{uuid4().hex}"


def _choice_file(name: str) -> Path:
    return folder() / "choices" / f"{hashlib.sha256(name.encode()).hexdigest()}.json"


def _choices(name: str) -> dict[str, Any]:
    try:
        told = json.loads(_choice_file(name).read_bytes())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _placed(part: Path, entry: Path) -> Path:
    """Rename a new entry to its name, unless another process was quicker. A broken one is taken away."""
    if found(entry.name) is None:
        _remove(entry)
        try:
            part.rename(entry)
        except OSError:
            if found(entry.name) is None:
                raise
    return entry


def _make_room(newest: Path) -> None:
    """Take away what was used least recently, until the rest is within the limit."""
    entries = sorted((each for each in _listed() if each != newest), key=_used, reverse=True)
    room = limit() - _size(newest)
    for entry in entries:
        room -= _size(entry)
        if room < 0:
            _remove(entry)


def _listed() -> Iterator[Path]:
    """All entries, without what is being written; what was given up half-written is taken away."""
    for each in _models().iterdir():
        if not each.name.startswith("."):
            yield each
        elif time.time() - _used(each) > ABANDONED:
            shutil.rmtree(each, ignore_errors=True)


def _remove(entry: Path) -> None:
    """Take an entry away, all of it at once for those who look for it."""
    gone = _beside()
    with suppress(OSError):  # it is gone already, or open on Windows
        entry.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _used(entry: Path) -> float:
    """When it was written or found last."""
    told = entry / TOLD
    try:
        return (told if told.exists() else entry).stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    return sum(_bytes(Path(at, name)) for at, _, names in os.walk(path) for name in names)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # another process took it away


def _sums(entry: Path) -> dict[str, int]:
    """The checksum of each file of an entry: a disk that lost power keeps files of zeros."""
    return {each.name: _sum(each) for each in sorted(entry.iterdir()) if each.name != TOLD}


def _sum(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            found = zlib.crc32(block, found)
    return found
