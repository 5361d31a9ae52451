"""Tables that fit a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxcam.cli.narrow_table import LEAST, fit, shorten
from onnxcam.cli.visible_text import width

RESNET = [
    f"/layer{stage}/layer{stage}.{block}/{operator}_output_0"
    for stage in range(1, 5)
    for block in range(3)
    for operator in ("conv1/Conv", "bn1/BatchNormalization", "Relu", "conv2/Conv", "Add", "Relu_1")
]
MIDDLE = [f"{'a' * 100}{i}{'b' * 100}" for i in range(10)]


def test_names_that_fit_are_not_cut() -> None:
    assert shorten(RESNET, 60) == RESNET


def test_long_name_keeps_more_of_its_end() -> None:
    assert shorten(["features/expanded/0/project/Conv2D"], 22) == ["feature…project/Conv2D"]


@pytest.mark.parametrize("names", [RESNET, MIDDLE])
@pytest.mark.parametrize("columns", [32, 40])
def test_cut_names_stay_different(names: list[str], columns: int) -> None:
    shortened = shorten(names, columns)
    assert len(set(shortened)) == len(names)
    assert max(map(len, shortened)) <= columns


def test_equal_names_stay_equal() -> None:
    assert len(set(shorten(["n" * 50, "n" * 50], 20))) == 1


@given(st.lists(st.text(max_size=40), max_size=5), st.integers(-5, 30))
def test_cut_names_fit(names: list[str], columns: int) -> None:
    shortened = shorten(names, columns)
    assert all(width(name) <= max(columns, LEAST) for name in shortened)
    short = {name for name in names if width(name) <= columns}
    assert short <= set(shortened)


def test_wide_characters_are_counted() -> None:
    assert shorten(["漢字" * 20], 13) == ["漢字…漢字漢字"]


TABLE = [
    ["#", "name", "shape", "operator", "grid"],
    ["1", "n" * 30, "1 x 3 x 8 x 8", "Convolution", "8 x 8"],
]


@pytest.mark.parametrize(
    ("columns", "omitted"), [(90, []), (68, []), (67, [2]), (52, [2, 3]), (20, [2, 3])]
)
def test_optional_columns_are_left_out_before_names_are_cut(
    columns: int, omitted: list[int]
) -> None:
    lines, left_out = fit(TABLE, 1, (2, 3), columns)
    assert left_out == omitted
    assert [len(line) for line in lines] == [5 - len(omitted)] * 2
    assert lines[1][1] == "n" * 30 or columns == 20
