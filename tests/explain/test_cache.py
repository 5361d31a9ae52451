"""Cache entries are complete or absent, within the size limit, and errors never stop a run."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import onnxcam
from onnxcam.explain import cache
from tests.explain.support.cache_entries import keep, names, writing

ROOT = Path(onnxcam.__file__).resolve().parents[1]
TEN = b"0123456789"


def set_last_used(name: str, seconds: float) -> None:
    os.utime(cache.folder() / "models" / name / cache.ENTRY_FILE, (seconds, seconds))


@pytest.mark.parametrize(
    ("variables", "windows", "expected"),
    [
        ({"ONNXCAM_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, False, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, False, "/b/onnxcam"),
        ({}, False, "/home/me/.cache/onnxcam"),
        ({"LOCALAPPDATA": "/local", "XDG_CACHE_HOME": "/b"}, True, "/local/onnxcam"),
    ],
)
def test_folder_follows_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], windows: bool, expected: str
) -> None:
    for name in ("ONNXCAM_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/me", "USERPROFILE": "/home/me"} | variables).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cache, "WINDOWS", windows)
    assert cache.folder() == Path(expected)


def test_missing_home_disables_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    assert keep("a") is None
    assert cache.lookup("a") is None
    assert cache.size() == 0


def test_stored_entry_is_found(cache_folder: Path) -> None:
    assert cache.lookup("a") is None
    entry_folder = cache.store("a", writing(TEN))
    assert entry_folder is not None
    assert (entry_folder / "content").read_bytes() == TEN
    assert cache.lookup("a") == entry_folder
    assert cache.lookup("b") is None
    assert names(cache_folder) == {"a"}
    assert cache.size() == 10 + (entry_folder / "entry.json").stat().st_size


@pytest.mark.parametrize(
    "spoil",
    [
        lambda entry_folder: (entry_folder / "content").write_bytes(TEN[:-1]),
        lambda entry_folder: (entry_folder / "content").write_bytes(b"\0" * 10),
        lambda entry_folder: (entry_folder / "content").unlink(),
        lambda entry_folder: (entry_folder / "other").write_bytes(TEN),
        lambda entry_folder: (entry_folder / "entry.json").unlink(),
        lambda entry_folder: (entry_folder / "entry.json").write_bytes(b"{"),
        lambda entry_folder: (entry_folder / "entry.json").write_bytes(b"\xff[]"),
        lambda entry_folder: (entry_folder / "entry.json").write_text("[1]"),
    ],
    ids=["shorter", "zeros", "missing", "extra", "no record", "cut", "binary", "foreign"],
)
def test_damaged_entry_is_replaced(cache_folder: Path, spoil: Callable[[Path], object]) -> None:
    entry_folder = cache.store("a", writing(TEN))
    assert entry_folder is not None
    spoil(entry_folder)
    assert cache.lookup("a") is None
    assert cache.store("a", writing(TEN)) == entry_folder
    assert cache.lookup("a") == entry_folder
    assert names(cache_folder) == {"a"}


def test_renamed_entry_is_not_found() -> None:
    entry_folder = keep("a")
    assert entry_folder is not None
    entry_folder.rename(entry_folder.with_name("b"))
    assert cache.lookup("b") is None


def test_least_recently_used_entry_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate("abc"):
        assert keep(name)
        set_last_used(name, 1000.0 + number)
    assert cache.lookup("a")  # now used last
    monkeypatch.setenv("ONNXCAM_CACHE_SIZE", "3500")  # three of 1000 bytes with their records
    assert keep("d")
    assert names(cache.folder()) == {"a", "c", "d"}
    assert cache.size() <= 3500


@pytest.mark.parametrize("limit", ["0", "900", "-1"])
def test_entry_above_limit_is_not_stored(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv("ONNXCAM_CACHE_SIZE", limit)
    assert keep("a") is None
    assert cache.size() == 0


@pytest.mark.parametrize("limit", ["", "much", "inf", "nan"])
def test_non_numeric_limit_uses_default(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv("ONNXCAM_CACHE_SIZE", limit)
    assert cache.limit() == cache.LIMIT


def test_full_disk_stores_nothing(cache_folder: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "part").write_bytes(TEN)
        raise OSError(errno.ENOSPC, "No space left on device")

    assert cache.store("a", write) is None
    assert cache.lookup("a") is None
    assert names(cache_folder) == set()


def test_file_in_place_of_folder_disables_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(TEN)
    monkeypatch.setenv("ONNXCAM_CACHE", str(tmp_path / "file"))
    assert keep("a") is None
    assert cache.lookup("a") is None
    cache.set_choice("a", "chunk", 1)
    assert cache.get_choice("a", "chunk") is None
    assert (tmp_path / "file").read_bytes() == TEN


def test_abandoned_entry_is_removed() -> None:
    assert keep("a")
    models = cache.folder() / "models"
    for name, seconds in ((".old", 1000.0), (".new", None)):
        (models / name).mkdir()
        os.utime(models / name, None if seconds is None else (seconds, seconds))
    assert keep("b")
    assert names(cache.folder()) == {"a", "b", ".new"}


BUSY = """
import sys
from onnxcam.explain import cache
own = int(sys.argv[1])
for turn in range(150):
    name = "abcdef"[(turn * (own + 1)) % 6]
    if entry := cache.lookup(name):
        try:
            content = (entry / "content").read_bytes()
        except OSError:
            continue  # removed to make room
        assert content == name.encode() * 1000, "incomplete"
    else:
        cache.store(name, lambda folder: (folder / "content").write_bytes(name.encode() * 1000))
    cache.set_choice(name, "turn", turn)
    assert isinstance(cache.get_choice(name, "turn"), int)
"""


def test_concurrent_processes_see_complete_entries(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONNXCAM_CACHE_SIZE", "3500")
    line = [sys.executable, "-W", "error", "-c", BUSY]
    busy = [
        subprocess.Popen([*line, str(number)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for number in range(3)
    ]
    for process in busy:
        _, output = process.communicate(timeout=60)
        assert (process.returncode, output) == (0, "")
    assert {name[0] for name in names(cache_folder)} <= set("abcdef")  # nothing unfinished remains
    assert names(cache_folder)


def test_choices_are_stored_by_name() -> None:
    assert cache.get_choice("model cpu 2", "chunk") is None
    cache.set_choice("model cpu 2", "chunk", 16)
    cache.set_choice("model cpu 2", "times", {"8": 0.5, "16": 0.25})
    cache.set_choice("model cpu 4", "chunk", 1)
    assert cache.get_choice("model cpu 2", "chunk") == 16
    assert cache.get_choice("model cpu 2", "times") == {"8": 0.5, "16": 0.25}
    assert cache.get_choice("model cpu 4", "chunk") == 1
    assert cache.get_choice("model cpu 4", "times") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[16]", b"\xff"])
def test_damaged_choices_are_replaced(content: bytes) -> None:
    cache.set_choice("a", "chunk", 16)
    (file,) = (cache.folder() / "choices").iterdir()
    file.write_bytes(content)
    assert cache.get_choice("a", "chunk") is None
    cache.set_choice("a", "chunk", 8)
    assert json.loads(file.read_bytes()) == {"chunk": 8}


def test_number_of_choices_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CHOICES", 3)
    for number in range(5):
        cache.set_choice(str(number), "chunk", number)
        for file in (cache.folder() / "choices").iterdir():
            os.utime(file, (file.stat().st_mtime - 10,) * 2)
    assert [cache.get_choice(str(number), "chunk") for number in range(5)] == [None, None, 2, 3, 4]
