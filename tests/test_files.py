"""Files are there whole or not at all, and one that was there before stays until the new one is whole."""

import os
import stat
from pathlib import Path

import pytest

from onnxcam.errors import OnnxcamError, OutputError
from onnxcam.files import write_together, written
from onnxcam.table import Table


def test_a_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with written(path) as part:
        assert part.parent == path.parent
        assert part.suffix == ".txt"
        part.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert [each.name for each in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
def test_the_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with written(tmp_path / "ours") as part:
        part.write_text("")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("fault", [OSError("disk"), ValueError("bug"), KeyboardInterrupt()])
def test_what_was_there_stays(tmp_path: Path, fault: BaseException) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    expected = OutputError if isinstance(fault, OSError) else type(fault)

    def interrupted() -> None:
        with written(path) as part:
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
        written(tmp_path / "file" / "inner.txt"),
    ):
        pass


def test_several_files_or_none(tmp_path: Path) -> None:
    good = {tmp_path / name: name.encode() for name in ("a", "b")}
    write_together(good)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == good
    bad = {tmp_path / "c": b"", tmp_path / "a" / "d": b"", tmp_path / "e": b""}
    with pytest.raises(OutputError, match="a/d: cannot be written"):
        write_together(bad)
    assert set(tmp_path.iterdir()) == set(good)


def test_a_table_refuses_duplicates_and_guesses() -> None:
    table: Table[int] = Table("colour")
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
