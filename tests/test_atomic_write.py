"""Files are there whole or not at all, and one that was there before stays until the new one is whole."""

import hashlib
import os
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import onnxcam
from onnxcam.atomic_write import atomic_write, atomic_write_all
from onnxcam.errors import OnnxcamError, OutputError
from onnxcam.registry import Registry
from onnxcam.regular_files import digest_file, read_regular

ROOT = Path(onnxcam.__file__).resolve().parents[1]


def test_a_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with atomic_write(path) as part:
        assert part.parent == path.parent
        assert part.suffix == ".txt"
        part.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert [each.name for each in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
def test_the_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with atomic_write(tmp_path / "ours") as part:
        part.write_text("")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("fault", [OSError("disk"), ValueError("bug"), KeyboardInterrupt()])
def test_what_was_there_stays(tmp_path: Path, fault: BaseException) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    expected = OutputError if isinstance(fault, OSError) else type(fault)

    def interrupted() -> None:
        with atomic_write(path) as part:
            part.write_text("half")
            raise fault

    with pytest.raises(expected):
        interrupted()
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_error_names_the_file_and_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match=r"file/inner.txt: cannot be written \(\w+"),
        atomic_write(tmp_path / "file" / "inner.txt"),
    ):
        pass


def test_several_files_or_none(tmp_path: Path) -> None:
    good = {tmp_path / name: name.encode() for name in ("a", "b")}
    atomic_write_all(good, tmp_path / "m", b"complete", b"unfinished")
    expected = {**good, tmp_path / "m": b"complete"}
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == expected
    bad = {tmp_path / "c": b"", tmp_path / "a" / "d": b"", tmp_path / "e": b""}
    with pytest.raises(OutputError, match="a/d: cannot be written"):
        atomic_write_all(bad, tmp_path / "n", b"", b"")
    assert set(tmp_path.iterdir()) == set(expected)


def test_a_table_refuses_duplicates_and_guesses() -> None:
    table: Registry[int] = Registry("colour")
    assert table.add("ember", 1) == 1
    with pytest.raises(ValueError, match="colour 'ember' is entered twice"):
        table.add("ember", 2)
    assert (dict(table), len(table), "ember" in table, "amber" in table) == (
        {"ember": 1}, 1, True, False,
    )  # fmt: skip
    with pytest.raises(OnnxcamError, match="no colour 'embre'; did you mean ember"):
        table["embre"]
    with pytest.raises(OnnxcamError, match="no colour 'xyz'; known: ember"):
        table["xyz"]


def test_files_of_several_threads_never_touch_the_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mask is the whole process's: another thread's file would be made under a changed one."""

    def change(mask: int) -> int:
        raise AssertionError("os.umask was called")

    monkeypatch.setattr(os, "umask", change)

    def write(number: int) -> None:
        with atomic_write(tmp_path / f"{number}.txt") as part:
            part.write_text("whole")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(64)))
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o027, 0o002])
def test_the_mask_of_the_process_holds(tmp_path: Path, mask: int) -> None:
    path = tmp_path / "file.txt"
    code = (
        "import os, sys; from pathlib import Path; from onnxcam.atomic_write import atomic_write\n"
    )
    code += "os.umask(int(sys.argv[1]))\nwith atomic_write(Path(sys.argv[2])) as part: part.write_text('')"
    subprocess.run([sys.executable, "-c", code, str(mask), path], cwd=ROOT, check=True, timeout=60)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_a_digest_is_that_of_the_content(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert digest_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


@pytest.mark.skipif(os.name == "nt", reason="no such files on Windows")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "socket", "nothing"])
def test_what_is_no_regular_file_is_not_read(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("/dev/zero" if kind == "device" else "file")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "socket":
            listener.bind(str(path))
        assert read_regular(path) is None
        with pytest.raises(OSError, match=r"not a regular file|No such file|Is a directory"):
            digest_file(path)


def test_what_is_larger_than_expected_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular(tmp_path / "file", 5) == b"12345"
    assert read_regular(tmp_path / "file", 4) is None
    assert read_regular(Path("a\0b")) is None
