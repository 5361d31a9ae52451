"""What counts as a right gradient, and that rows survive the CSV. The models need torch, and hours."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.parity.families import FAMILIES
from scripts.parity.parity import Row, _append, _read_rows, gap, summary

TRUE = np.array([1.0, -2.0, 4.0])


@pytest.mark.parametrize(
    ("ours", "single", "right"),
    [
        (TRUE, TRUE, True),
        (TRUE * (1 + 0.9e-4), TRUE, True),
        (TRUE * (1 + 1.1e-4), TRUE, False),
        (TRUE * 1.001, TRUE * 0.9995, True),  # no farther than twice what torch is off
        (TRUE * 1.0011, TRUE * 0.9995, False),
        (-TRUE, TRUE, False),
        (np.zeros(3), TRUE, False),
        (TRUE * np.nan, TRUE, False),
    ],
)
def test_gap_is_right_within_bounds(ours: Any, single: Any, right: bool) -> None:
    assert gap(ours, single, TRUE).is_right is right


def test_rows_survive_the_file(tmp_path: Path) -> None:
    rows = [
        Row("vit", "test_vit", "script", "right", 17, 240, 128, "a", "NTC", "8x8", 1, build=0.5),
        Row("x", "y", "dynamo", "no rule", why='{"Det": 2, "com.microsoft::Odd": 1}'),
    ]
    for row in rows:
        _append(tmp_path / "rows.csv", row)
    loaded = _read_rows(tmp_path / "rows.csv")
    assert [repr(row) for row in loaded] == [repr(row) for row in rows]
    line = summary(loaded)
    assert "no rule for Det: 1 models" in line
    assert "0.50 s for 1,000 nodes" in line


def test_at_least_ninety_families_have_distinct_models() -> None:
    assert len(FAMILIES) >= 90
    assert len(set(FAMILIES.values())) == len(FAMILIES)
