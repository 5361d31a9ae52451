"""The cache is read only as far as it is the user's own, and nothing that lies in it stops a run."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import onnxcam
from onnxcam import atomic_write
from onnxcam.atomic_write import unfinished_path
from onnxcam.explain import cache
from tests.explain.support.cache_entries import keep, names
from tests.support.limits import run_limited

ROOT = Path(onnxcam.__file__).resolve().parents[1]
posix = pytest.mark.skipif(os.name == "nt", reason="owners, permissions and pipes are POSIX's")
SECONDS = 20

USE = """
import sys
from pathlib import Path
from onnxcam.explain import cache
print(cache.lookup("a"), cache.get_choice("a", "choice"))
if cache.store("a", lambda folder: (folder / "content").write_bytes(b"new") and None):
    print((cache.lookup("a") / "content").read_bytes())
cache.set_choice("a", "choice", 2)
print(cache.get_choice("a", "choice"))
"""


@pytest.fixture
def entry_folder(cache_folder: Path) -> Path:
    """An entry with one file, and a choice."""
    entry_folder = keep("a")
    assert entry_folder
    cache.set_choice("a", "choice", 1)
    return entry_folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@posix
@pytest.mark.parametrize("mask", [0o022, 0o002, 0o000, 0o077])
def test_folders_are_private(cache_folder: Path, mask: int) -> None:
    code = f"import os; os.umask({mask})\n{USE}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
    for path in (cache_folder, *cache_folder.rglob("*")):
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path


@posix
def test_open_folders_are_made_private(entry_folder: Path) -> None:
    entry_folder.parent.chmod(0o777)
    assert cache.lookup("a") is None
    assert keep("b")
    assert mode(entry_folder.parent) == 0o700
    assert cache.lookup("a")


@posix
def test_cache_of_other_user_is_not_used(
    entry_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.lstat().st_mtime_ns for path in cache.folder().rglob("*")}
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert cache.lookup("a") is None
    assert cache.get_choice("a", "choice") is None
    assert keep("b") is None
    cache.set_choice("a", "choice", 2)
    assert {path: path.lstat().st_mtime_ns for path in cache.folder().rglob("*")} == before
    assert cache.problem() == f"{entry_folder.parent} is not a folder that only you can write to"


@posix
@pytest.mark.parametrize("bits", [0o020, 0o002])
@pytest.mark.parametrize("name", ["", "content", cache.ENTRY_FILE])
def test_files_writable_by_others_are_replaced(entry_folder: Path, name: str, bits: int) -> None:
    path = entry_folder / name
    path.chmod(mode(path) | bits)
    assert cache.lookup("a") is None
    assert keep("a")
    assert not mode(path) & 0o077
    assert cache.lookup("a")


@posix
@pytest.mark.parametrize("bits", [0o020, 0o002])
def test_choices_writable_by_others_are_ignored(entry_folder: Path, bits: int) -> None:
    (path,) = (cache.folder() / "choices").iterdir()
    path.chmod(mode(path) | bits)
    assert cache.get_choice("a", "choice") is None
    cache.set_choice("a", "choice", 2)
    assert cache.get_choice("a", "choice") == 2


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def folder(path: Path) -> None:
    (path / "inner").mkdir(parents=True)


def plain(path: Path) -> None:
    path.write_bytes(b"x")


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


@posix
@pytest.mark.parametrize("replace", [pipe, device, loop, folder, plain, sparse])
@pytest.mark.parametrize("where", ["entry", "content", cache.ENTRY_FILE, "choice"])
def test_irregular_files_are_replaced(
    entry_folder: Path, where: str, replace: Callable[[Path], None]
) -> None:
    (choice,) = (cache.folder() / "choices").iterdir()
    path = {"entry": entry_folder, "choice": choice}.get(where, entry_folder / where)
    path.rename(cache.folder() / "old")
    replace(path)
    done = run_limited(USE, seconds=SECONDS)
    assert done.returncode == 0, done.stderr
    if where == "choice":  # a folder there is not replaced by a file
        expected = [f"{entry_folder} None", str(b"x" * 1000), "None" if replace is folder else "2"]
    else:
        expected = ["None 1", "b'new'", "2"]
    assert done.stdout.splitlines() == expected


@posix
@pytest.mark.parametrize("name", ["models", "choices", ""])
def test_linked_folders_are_not_used(entry_folder: Path, tmp_path: Path, name: str) -> None:
    where = cache.folder() / name
    where.rename(tmp_path / "elsewhere")
    where.symlink_to(tmp_path / "elsewhere")
    if not name:  # the user's own choice of a larger disk
        assert cache.lookup("a")
        assert cache.problem() is None
        where.unlink()
        where.write_bytes(b"")
        assert cache.problem()
    assert (cache.lookup("a") is None) == (name != "choices")
    before = sorted((tmp_path / "elsewhere").rglob("*"))
    keep("c")
    cache.set_choice("c", "choice", 1)
    assert sorted((tmp_path / "elsewhere").rglob("*")) == before
    assert cache.problem()


@posix
def test_linked_entry_is_replaced(entry_folder: Path, tmp_path: Path) -> None:
    """Nor is what it leads to touched when the entry is made again."""
    elsewhere = entry_folder.rename(tmp_path / "elsewhere")
    entry_folder.symlink_to(elsewhere)
    assert cache.lookup("a") is None
    assert keep("a") == entry_folder
    assert not entry_folder.is_symlink()
    assert sorted(path.name for path in elsewhere.iterdir()) == ["content", cache.ENTRY_FILE]


RECORDS = [
    "", "[]", "1", "null", "NaN", '"a"', "{}", "[" * 200_000, '{"a":' * 200_000, "1" * 5000,
    '{"name": "a"}', '{"name": "a", "files": 1}', '{"name": "a", "files": []}',
    '{"name": "a", "files": {}}', '{"name": "a", "files": {"content": null}}',
    '{"name": "a", "files": {"content": []}}', '{"name": "a", "files": {"content": {}}}',
    '{"name": "a", "files": {"content": [1000, null]}}', '{"name": ["a"], "files": {"content": 1}}',
    '{"name": "a", "files": {"content": [NaN, ""]}}', '{"name": "a", "files": {"../a": [1, ""]}}',
    '{"name": "a", "files": {"content\\u0000": [1000, ""]}}',
    f'{{"name": "a", "files": {{"content": [1000, "{"0" * 64}"]}}}}',
    '{"name": "a", "files": ' + " " * 2_000_000 + "{}}",
]  # fmt: skip


@pytest.mark.parametrize("record", RECORDS, ids=lambda text: text[:60])
def test_forged_records_are_replaced(entry_folder: Path, record: str) -> None:
    (entry_folder / cache.ENTRY_FILE).write_text(record)
    assert cache.lookup("a") is None
    assert keep("a") == entry_folder
    assert cache.lookup("a") == entry_folder


@pytest.mark.parametrize("record", [text for text in RECORDS if text[:7] != '{"name"'])
def test_forged_choices_are_ignored(entry_folder: Path, record: str) -> None:
    (path,) = (cache.folder() / "choices").iterdir()
    path.write_text(record)
    assert cache.get_choice("a", "choice") is None
    cache.set_choice("a", "choice", 3)
    assert cache.get_choice("a", "choice") == 3


# Remains of interrupted runs


def leftover(size: int) -> Path:
    unfinished = unfinished_path(cache.folder() / "models" / "x")
    unfinished.mkdir()
    (unfinished / "half").write_bytes(b"x" * size)
    return unfinished


def test_unfinished_entries_count_toward_limit(
    entry_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "bc":
        assert keep(name)
    unfinished = leftover(2000)
    monkeypatch.setenv("ONNXCAM_CACHE_SIZE", "4500")
    assert keep("d")
    remaining = names(cache.folder()) - {unfinished.name}
    assert "d" in remaining
    assert len(remaining) == 2
    assert unfinished.exists()


def test_files_of_dead_process_are_removed(
    entry_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished = leftover(2000)
    monkeypatch.setattr(atomic_write, "_is_alive", lambda process: False)
    assert keep("b")
    assert not unfinished.exists()
    assert names(cache.folder()) == {"a", "b"}


DIE = """
import os
from onnxcam.explain import cache
def write(folder):
    (folder / "half").write_bytes(b"x" * 5000)
    os._exit(9)
cache.store("b", write)
"""


@posix
def test_killed_process_leaves_no_entry(entry_folder: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", DIE], cwd=ROOT, check=False, timeout=60)
    assert killed.returncode == 9
    assert cache.lookup("a")
    assert len(names(cache.folder())) == 2
    assert cache.size() > 6000
    assert keep("b")
    assert names(cache.folder()) == {"a", "b"}


@posix
def test_irregular_files_among_entries_are_harmless(
    entry_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = cache.folder() / "models"
    os.mkfifo(models / "pipe")
    (models / "link").symlink_to("/")
    (models / "file").write_bytes(b"x" * 900)
    sizes: list[Any] = [cache.size()]
    assert sizes[0] < 10_000
    monkeypatch.setenv("ONNXCAM_CACHE_SIZE", "1300")
    assert keep("b")
    assert "b" in names(cache.folder())
    assert "a" not in names(cache.folder())
    assert json.loads((models / "b" / cache.ENTRY_FILE).read_bytes())["name"] == "b"
