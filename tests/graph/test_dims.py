"""Arithmetic of dimensions: numbers, names, and unknown sizes."""

from typing import Any

import pytest

from onnxcam.arrays import Dim
from onnxcam.graph.dims import broadcast_named_dim, broadcast_shapes, is_static, merge_shapes


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        (None, None, None),
        (None, [1, "a"], (1, "a")),
        ([None, 2], ["n", 3], ("n", 2)),
        ([1], [1, 2], (1,)),
    ],
)
def test_merged_shape_prefers_the_first(first: Any, second: Any, merged: Any) -> None:
    assert merge_shapes(first, second) == merged


def test_static_shape_has_numbers_only() -> None:
    assert is_static((1, 2))
    assert is_static(())
    assert not is_static(("n", 2))
    assert not is_static(None)


@pytest.mark.parametrize(
    ("first", "second", "shape"),
    [
        ((1, 1, 8), ["N", 1, 1], ("N", 1, 8)),
        ((8,), ["N", 5, 1], ("N", 5, 8)),
        ((2, "T", 8), [1], (2, "T", 8)),
        (("T", 1), ["T", 4], ("T", 4)),
        (("T", 1), [7, 4], (7, 4)),
        (("T", 1), ["S", 4], (None, 4)),
        ((), ["N", 1], ("N", 1)),
    ],
)
def test_shapes_are_broadcast_from_the_right(first: Any, second: list[Any], shape: Any) -> None:
    assert broadcast_shapes(first, second) == shape


@pytest.mark.parametrize(
    ("first", "second", "size"),
    [
        ("N", "M", "max(N,M)"),
        ("N", "N", "N"),
        ("N", 1, "N"),
        ("N", 4, 4),
        ("N", None, None),
        (0, 1, 0),
    ],
)
def test_two_names_are_broadcast_to_an_expression(first: Dim, second: Dim, size: Dim) -> None:
    assert broadcast_named_dim(first, second) == size
