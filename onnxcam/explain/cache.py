"""What is kept on disk from one run to the next: models that are ready to run, and small choices.

The folder is $ONNXCAM_CACHE, or `onnxcam` in the user's folder for caches. An entry is a folder of files
that is there whole or not at all: it is written beside, told of in `entry.json`, and renamed. Several
processes may read, write and empty the cache at once. A disk that is full or closed is no error: nothing is
kept then.

The cache is trusted like the user's own files: whoever can write there decides what is run. So its folders are
closed to others, and only regular files are read, none that another user owns or can write to. Digests detect
damage, not forgery; entries that do not match them are made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from onnxcam.atomic_write import ABANDONED, atomic_write, discard, part_of, sweep
from onnxcam.errors import OutputError
from onnxcam.regular_files import digest_blocks, read_regular

LIMIT = 2_000_000_000  # bytes of all models together, unless $ONNXCAM_CACHE_SIZE says it
CHOICES = 1000  # files of choices at most
LARGEST_TEXT = 1 << 20  # bytes of an `entry.json` or a file of choices
LARGEST_FILE = 1 << 33  # bytes of a model, which is not kept above 2 GB
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
ENTRY_FILE = "entry.json"
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


def lookup(name: str) -> Path | None:
    """The folder of an entry, which counts as used now; None if there is none, complete and of this user."""
    entry = _models() / name
    if not (_is_own(_models(), stat.S_IFDIR) and _is_own(entry, stat.S_IFDIR)):
        return None
    record = _read_json(entry / ENTRY_FILE)
    digests = record.get("files")
    try:
        if record.get("name") != name or not isinstance(digests, dict):
            return None
        if {path.name for path in entry.iterdir()} != {ENTRY_FILE, *digests}:
            return None
        if not all(_matches(entry / file, digest) for file, digest in digests.items()):
            return None
    except OSError:
        return None
    with suppress(OSError):  # in a folder that may only be read
        os.utime(entry / ENTRY_FILE)
    return entry


def store(name: str, write: Callable[[Path], None]) -> Path | None:
    """The folder of a new entry, whose files `write` puts into the folder that it is given; the oldest entries
    make room for it. None where it could not be kept: no place, or larger than the limit.
    """
    if not limit():
        return None
    part = part_of(_models() / name)
    try:
        _make_own(_models())
        sweep(_models())
        part.mkdir(mode=0o700)
        write(part)
        record = json.dumps({"name": name, "files": _digests(part)})
        (part / ENTRY_FILE).write_text(record, encoding="utf-8")
        for path in part.iterdir():
            path.chmod(0o600)
        if _size(part) > limit():
            return None
        entry = _placed(part, _models() / name)
        _make_room(entry)
    except OSError:
        return None
    finally:
        discard(part)
    return entry


def forget(name: str) -> None:
    """Remove an entry whose files are undamaged but of no use."""
    if _is_own(_models(), stat.S_IFDIR):
        _remove(_models() / name)


def problem() -> str | None:
    """Why the cache is not used; None if it is."""
    for path in (folder(), _models(), folder() / "choices"):
        if not os.path.lexists(path):
            continue
        own = path.is_dir() if path == folder() else _is_own(path, stat.S_IFDIR)
        if not own:
            return f"{path} is not a folder that only you can write to"
    return None


def size() -> int:
    """Bytes of everything that is kept."""
    return _size(Path(os.path.realpath(folder())))


def get_choice(name: str, what: str) -> Any:
    """The JSON value that was remembered of `what` under the name; None where nothing was."""
    return _choices(name).get(what)


def set_choice(name: str, what: str, value: Any) -> None:
    """Keep a small JSON value, for `remembered`. Of two processes that write at once one may be forgotten."""
    text = json.dumps({**_choices(name), what: value})
    try:
        _make_own(_choice_file(name).parent)
        with atomic_write(_choice_file(name)) as path:
            path.write_text(text, encoding="utf-8")
            path.chmod(0o600)
        old = sorted(_choice_file(name).parent.glob("*.json"), key=_used)[:-CHOICES]
        for each in old:
            discard(each)
    except (OSError, OutputError):
        return


def _models() -> Path:
    return folder() / "models"


def _choice_file(name: str) -> Path:
    return folder() / "choices" / f"{hashlib.sha256(name.encode()).hexdigest()}.json"


def _choices(name: str) -> dict[str, Any]:
    path = _choice_file(name)
    return _read_json(path) if _is_own(path.parent, stat.S_IFDIR) else {}


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a small file of ours; an empty one for anything else."""
    if not _is_own(path, stat.S_IFREG):
        return {}
    try:
        value = json.loads(read_regular(path, LARGEST_TEXT) or b"")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_own(path: Path, kind: int) -> bool:
    """Whether the path is of this kind, not a link, and, by its owner and permissions, only the user can have
    changed it. Windows keeps these elsewhere, and its cache folder belongs to the user alone.
    """
    try:
        status = path.lstat()
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return False
    if stat.S_IFMT(status.st_mode) != kind:
        return False
    return os.name == "nt" or (status.st_uid == os.geteuid() and not status.st_mode & OTHERS_WRITE)


def _make_own(path: Path) -> None:
    """Make a cache folder that nobody else can open. OSError if it is a link or belongs to another user."""
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if os.name != "nt" and stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
        path.chmod(0o700)  # an older version may have made it
    if not _is_own(path, stat.S_IFDIR):
        raise PermissionError(f"{path} belongs to another user")


def _placed(part: Path, entry: Path) -> Path:
    """Rename a new entry to its name, unless another process was quicker. A broken one is taken away."""
    if lookup(entry.name) is None:
        _remove(entry)
        try:
            part.rename(entry)
        except OSError:
            if lookup(entry.name) is None:
                raise
    return entry


def _make_room(newest: Path) -> None:
    """Remove what was used least recently until the rest is within the limit. Unfinished entries count, too."""
    others = [path for path in _listed() if path != newest]
    unfinished = [path for path in others if path.name.startswith(".")]
    entries = sorted((path for path in others if path not in unfinished), key=_used, reverse=True)
    room = limit() - _size(newest) - sum(map(_size, unfinished))
    for entry in entries:
        room -= _size(entry)
        if room < 0:
            _remove(entry)


def _listed() -> Iterator[Path]:
    """Everything that takes room, after removing abandoned half-written entries."""
    for path in _models().iterdir():
        if path.name.startswith(".") and time.time() - _used(path) > ABANDONED:
            discard(path)
        else:
            yield path


def _remove(entry: Path) -> None:
    """Take an entry away, all of it at once for those who look for it."""
    gone = part_of(entry)
    with suppress(OSError):  # it is gone already, or open on Windows
        entry.rename(gone)
    discard(gone)


def _used(entry: Path) -> float:
    """When it was written or found last."""
    with suppress(OSError):
        return (entry / ENTRY_FILE).lstat().st_mtime
    with suppress(OSError):
        return entry.lstat().st_mtime
    return 0.0


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    inner = (Path(at, name) for at, _, names in os.walk(path) for name in names)
    return sum(map(_bytes, inner)) if path.is_dir() and not path.is_symlink() else _bytes(path)


def _bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0  # another process took it away


def _digests(entry: Path) -> dict[str, list[Any]]:
    """Size and digest of each file of an entry: a disk that lost power keeps files of zeros."""
    paths = sorted(path for path in entry.iterdir() if path.name != ENTRY_FILE)
    return {path.name: [path.lstat().st_size, digest_blocks(path)] for path in paths}


def _matches(path: Path, digest: object) -> bool:
    """Whether a file is ours and as it was written; it is read only if its size is right."""
    if not _is_own(path, stat.S_IFREG) or not isinstance(digest, list) or len(digest) != 2:
        return False
    size = path.lstat().st_size
    return digest[0] == size <= LARGEST_FILE and digest[1] == digest_blocks(path)
