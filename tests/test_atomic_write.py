"""Files are written completely or not at all: an old file stays until the new one is complete."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import onnxcam
from onnxcam.atomic_write import atomic_write, atomic_write_all
from onnxcam.errors import OutputError

ROOT = Path(onnxcam.__file__).resolve().parents[1]


def test_atomic_write_renames_the_finished_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with atomic_write(path) as part:
        assert part.parent == path.parent
        assert part.suffix == ".txt"
        part.write_text("complete")
        assert not path.exists()
    assert path.read_text() == "complete"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
def test_atomic_write_uses_default_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with atomic_write(tmp_path / "ours") as part:
        part.write_text("")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("error", [OSError("disk"), ValueError("bug"), KeyboardInterrupt()])
def test_atomic_write_interrupted_keeps_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    expected = OutputError if isinstance(error, OSError) else type(error)

    def write_and_fail() -> None:
        with atomic_write(path) as part:
            part.write_text("half")
            raise error

    with pytest.raises(expected):
        write_and_fail()
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_atomic_write_error_names_file_and_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match=r"file/inner.txt: cannot be written \(\w+"),
        atomic_write(tmp_path / "file" / "inner.txt"),
    ):
        pass


def test_atomic_write_all_writes_all_files_or_none(tmp_path: Path) -> None:
    good = {tmp_path / name: name.encode() for name in ("a", "b")}
    atomic_write_all(good, tmp_path / "m", b"complete", b"unfinished")
    expected = {**good, tmp_path / "m": b"complete"}
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == expected
    bad = {tmp_path / "c": b"", tmp_path / "a" / "d": b"", tmp_path / "e": b""}
    with pytest.raises(OutputError, match="a/d: cannot be written"):
        atomic_write_all(bad, tmp_path / "n", b"", b"")
    assert set(tmp_path.iterdir()) == set(expected)


def test_atomic_write_in_threads_does_not_change_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The umask belongs to the process: files of other threads would be created with a changed one."""

    def change(mask: int) -> int:
        raise AssertionError("os.umask was called")

    monkeypatch.setattr(os, "umask", change)

    def write(number: int) -> None:
        with atomic_write(tmp_path / f"{number}.txt") as part:
            part.write_text("complete")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(64)))
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o027, 0o002])
def test_atomic_write_respects_the_umask(tmp_path: Path, mask: int) -> None:
    path = tmp_path / "file.txt"
    code = (
        "import os, sys; from pathlib import Path; from onnxcam.atomic_write import atomic_write\n"
    )
    code += "os.umask(int(sys.argv[1]))\nwith atomic_write(Path(sys.argv[2])) as part: part.write_text('')"
    subprocess.run([sys.executable, "-c", code, str(mask), path], cwd=ROOT, check=True, timeout=60)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
@pytest.mark.parametrize("kind", ["a pipe", "a folder"])
def test_irregular_file_is_not_replaced(tmp_path: Path, kind: str) -> None:
    """Else `-o /dev/null` would replace the device by a file."""
    path = tmp_path / "out"
    os.mkfifo(path) if kind == "a pipe" else path.mkdir()
    mode = path.stat().st_mode
    with (
        pytest.raises(OutputError, match=f"{kind}, not a regular file"),
        atomic_write(path) as part,
    ):
        part.write_text("new")
    with pytest.raises(OutputError, match=f"{kind}, not a regular file"):
        atomic_write_all({path: b"new"}, tmp_path / "manifest", b"done", b"not done")
    assert path.stat().st_mode == mode
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
