"""The disk cache: planned models that can run, and small choices, for later runs.

The folder is $ONNXCAM_CACHE, or `onnxcam` in the user's folder for caches. An entry is a folder of files that
is complete or absent: it is written under a temporary name, described in `entry.json`, and renamed. Several
processes may read, write and empty the cache at the same time. A full or read-only disk is not an error: then
nothing is stored.

The cache is trusted like the user's own files: whoever can write there decides what is run. So its folders are
closed to other users, and a file is read only if it is a regular file that no other user owns or can write to.
Digests detect damage, not forgery; entries that do not match them are built again.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from onnxcam.atomic_write import ABANDONED, atomic_write, discard, sweep, unfinished_path
from onnxcam.digests import digest_bytes, digest_json
from onnxcam.errors import OutputError
from onnxcam.regular_files import digest_blocks, read_regular

LIMIT = 2_000_000_000  # bytes of all models together, unless $ONNXCAM_CACHE_SIZE is set
CHOICES = 1000  # largest number of files of choices
LARGEST_TEXT = 1 << 20  # bytes of an `entry.json` or a file of choices
LARGEST_FILE = 1 << 33  # bytes; models above 2 GB are not stored
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
ENTRY_FILE = "entry.json"
WINDOWS = sys.platform == "win32"


def folder() -> Path:
    """The folder of the cache; it need not exist."""
    variable, default = (
        ("LOCALAPPDATA", "~/AppData/Local") if WINDOWS else ("XDG_CACHE_HOME", "~/.cache")
    )
    user_cache = Path(os.environ.get(variable) or default) / "onnxcam"
    try:
        return Path(os.environ.get("ONNXCAM_CACHE") or user_cache).expanduser()
    except RuntimeError:  # a user without a home folder, as in many containers
        return Path(os.devnull) / "onnxcam"  # where nothing can be stored


def limit() -> int:
    """The number of bytes that the models may take; 0 disables the cache."""
    try:
        return max(0, int(float(os.environ["ONNXCAM_CACHE_SIZE"])))
    except (KeyError, ValueError, OverflowError):
        return LIMIT


def key(parts: Mapping[str, Any]) -> str:
    """The name of an entry: the SHA-256 of everything that it depends on, as JSON."""
    return digest_json(parts)


def lookup(name: str) -> Path | None:
    """The folder of an entry, which then counts as used; None unless it is complete and belongs to this
    user.
    """
    entry_folder = _models_folder() / name
    if not (
        _is_private(_models_folder(), stat.S_IFDIR) and _is_private(entry_folder, stat.S_IFDIR)
    ):
        return None
    record = _read_json(entry_folder / ENTRY_FILE)
    digests = record.get("files")
    try:
        if record.get("name") != name or not isinstance(digests, dict):
            return None
        if {path.name for path in entry_folder.iterdir()} != {ENTRY_FILE, *digests}:
            return None
        if not all(_is_unchanged(entry_folder / file, digest) for file, digest in digests.items()):
            return None
    except OSError:
        return None
    with suppress(OSError):  # a read-only folder
        os.utime(entry_folder / ENTRY_FILE)
    return entry_folder


def store(name: str, write: Callable[[Path], None]) -> Path | None:
    """Store a new entry: `write` puts its files into a folder; the least recently used entries are removed to
    make room. Returns the entry's folder, None if it could not be stored: no room, or larger than the limit.
    """
    if not limit():
        return None
    unfinished = unfinished_path(_models_folder() / name)
    try:
        _make_private_folder(_models_folder())
        sweep(_models_folder())
        unfinished.mkdir(mode=0o700)
        write(unfinished)
        record = json.dumps({"name": name, "files": _entry_digests(unfinished)})
        (unfinished / ENTRY_FILE).write_text(record, encoding="utf-8")
        for path in unfinished.iterdir():
            path.chmod(0o600)
        if _size(unfinished) > limit():
            return None
        entry_folder = _rename_new(unfinished, _models_folder() / name)
        _make_room(entry_folder)
    except OSError:
        return None
    finally:
        discard(unfinished)
    return entry_folder


def forget(name: str) -> None:
    """Remove an entry whose files are undamaged but cannot be used."""
    if _is_private(_models_folder(), stat.S_IFDIR):
        _remove(_models_folder() / name)


def problem() -> str | None:
    """Why the cache is not used; None if it is used."""
    for path in (folder(), _models_folder(), folder() / "choices"):
        if not os.path.lexists(path):
            continue
        is_private = path.is_dir() if path == folder() else _is_private(path, stat.S_IFDIR)
        if not is_private:
            return f"{path} is not a folder that only you can write to"
    return None


def size() -> int:
    """Bytes of everything in the cache."""
    return _size(Path(os.path.realpath(folder())))


def get_choice(name: str, choice: str) -> Any:
    """The JSON value that `set_choice` stored for an entry; None if there is none."""
    return _read_choices(name).get(choice)


def set_choice(name: str, choice: str, value: Any) -> None:
    """Store a small JSON value for an entry. If two processes write at the same time, one value may be lost."""
    text = json.dumps({**_read_choices(name), choice: value})
    try:
        _make_private_folder(_choice_file(name).parent)
        if not _is_private(_choice_file(name), stat.S_IFREG):
            _choice_file(name).unlink(missing_ok=True)  # a link or pipe, which is not replaced
        with atomic_write(_choice_file(name)) as path:
            path.write_text(text, encoding="utf-8")
            path.chmod(0o600)
        files = sorted(_choice_file(name).parent.glob("*.json"), key=_last_used)
        for file in files[:-CHOICES]:
            discard(file)
    except (OSError, OutputError):
        return


def _models_folder() -> Path:
    return folder() / "models"


def _choice_file(name: str) -> Path:
    return folder() / "choices" / f"{digest_bytes(name.encode())}.json"


def _read_choices(name: str) -> dict[str, Any]:
    path = _choice_file(name)
    return _read_json(path) if _is_private(path.parent, stat.S_IFDIR) else {}


def _read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a small file from onnxcam; an empty one for anything else."""
    if not _is_private(path, stat.S_IFREG):
        return {}
    try:
        value = json.loads(read_regular(path, LARGEST_TEXT) or b"")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_private(path: Path, kind: int) -> bool:
    """Whether the path is of this kind and not a link, and whether its owner and permissions show that only
    this user can have changed it. They are not checked on Windows, where the cache folder belongs to the user.
    """
    try:
        status = path.lstat()
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return False
    if stat.S_IFMT(status.st_mode) != kind:
        return False
    return os.name == "nt" or (status.st_uid == os.geteuid() and not status.st_mode & OTHERS_WRITE)


def _make_private_folder(path: Path) -> None:
    """Create a cache folder that nobody else can open. OSError if it is a link or belongs to another user."""
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if os.name != "nt" and stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
        path.chmod(0o700)  # an older version may have created it
    if not _is_private(path, stat.S_IFDIR):
        raise PermissionError(f"{path} belongs to another user")


def _rename_new(unfinished: Path, entry_folder: Path) -> Path:
    """Rename a new entry to its name, unless another process was faster. A broken entry is removed."""
    if lookup(entry_folder.name) is None:
        _remove(entry_folder)
        try:
            unfinished.rename(entry_folder)
        except OSError:
            if lookup(entry_folder.name) is None:
                raise
    return entry_folder


def _make_room(newest: Path) -> None:
    """Remove the least recently used entries until the rest is within the limit. Unfinished ones count, too."""
    paths = [path for path in _list_entries() if path != newest]
    unfinished = [path for path in paths if path.name.startswith(".")]
    finished = (path for path in paths if path not in unfinished)
    entries = sorted(finished, key=_last_used, reverse=True)
    room = limit() - _size(newest) - sum(map(_size, unfinished))
    for entry_folder in entries:
        room -= _size(entry_folder)
        if room < 0:
            _remove(entry_folder)


def _list_entries() -> Iterator[Path]:
    """All entries, finished or not, after removing abandoned unfinished ones."""
    for path in _models_folder().iterdir():
        if path.name.startswith(".") and time.time() - _last_used(path) > ABANDONED:
            discard(path)
        else:
            yield path


def _remove(entry_folder: Path) -> None:
    """Remove an entry. It is renamed first, so that no process sees a part of it."""
    renamed = unfinished_path(entry_folder)
    with suppress(OSError):  # already removed, or open on Windows
        entry_folder.rename(renamed)
    discard(renamed)


def _last_used(entry_folder: Path) -> float:
    """When an entry or a file was last written or looked up."""
    with suppress(OSError):
        return (entry_folder / ENTRY_FILE).lstat().st_mtime
    with suppress(OSError):
        return entry_folder.lstat().st_mtime
    return 0.0


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = (Path(parent, name) for parent, _, names in os.walk(path) for name in names)
    return (
        sum(map(_file_bytes, files))
        if path.is_dir() and not path.is_symlink()
        else _file_bytes(path)
    )


def _file_bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0  # another process removed it


def _entry_digests(entry_folder: Path) -> dict[str, list[Any]]:
    """Size and digest of each file of an entry: after a power failure files may be all zeros."""
    paths = sorted(path for path in entry_folder.iterdir() if path.name != ENTRY_FILE)
    return {path.name: [path.lstat().st_size, digest_blocks(path)] for path in paths}


def _is_unchanged(path: Path, digest: object) -> bool:
    """Whether a private file is unchanged since it was written; it is read only if its size is right."""
    if not _is_private(path, stat.S_IFREG) or not isinstance(digest, list) or len(digest) != 2:
        return False
    size = path.lstat().st_size
    return digest[0] == size <= LARGEST_FILE and digest[1] == digest_blocks(path)
