"""Comparing the results of two versions: what counts as equal, and what fails."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from scripts.parity.maps import ERROR, Task, compare, compare_results, store_result

MAPS = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 2, 2)
BEFORE: dict[str, Any] = {"maps": MAPS, "layers": np.array(["relu"])}


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"maps": MAPS * np.float32(1 + 4e-7)}, True),
        ({"maps": MAPS * np.float32(1 + 4e-6)}, False),
        ({"maps": MAPS * np.nan}, False),
        ({"maps": MAPS[:1]}, False),
        ({"layers": np.array(["conv"])}, False),
        ({"notices": np.array(["reworded"])}, True),
        ({ERROR: np.array("ModelError")}, False),
    ],
)
def test_result_with_changes_passes_within_bound(changes: dict[str, Any], passed: bool) -> None:
    assert compare_results("map net cam", BEFORE, BEFORE | changes).passed == passed


def test_same_error_class_passes_with_other_wording() -> None:
    errors = [{ERROR: np.array("ModelError"), "error_line": np.array(line)} for line in ("a", "b")]
    comparison = compare_results("map net cam", *errors)
    assert comparison.passed
    assert not comparison.same_wording


def test_missing_result_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path / "before", tmp_path / "after"):
        folder.mkdir()
        assert store_result(folder, Task("map net cam", lambda: BEFORE)) == "ok"
    compare(tmp_path / "before", tmp_path / "after")
    assert "all passed" in capsys.readouterr().out
    (tmp_path / "after" / "map net cam.npz").unlink()
    with pytest.raises(typer.Exit):
        compare(tmp_path / "before", tmp_path / "after")


def test_failure_is_stored_as_error_class(tmp_path: Path) -> None:
    def fail() -> dict[str, Any]:
        raise LookupError("no automatic layer")

    assert store_result(tmp_path, Task("map net cam", fail)) == "LookupError"
    assert str(np.load(tmp_path / "map net cam.npz")[ERROR]) == "LookupError"
