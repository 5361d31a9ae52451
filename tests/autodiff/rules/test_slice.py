"""Slice with steps, backward, from the end, and with computed bounds."""

from typing import Any

import pytest
from onnx import parser

from tests.autodiff.support.check import check_model, check_vjp, ints, numbers

SLICES: list[
    tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...] | None, tuple[int, ...] | None]
] = [
    ((1,), (4,), (1,), None),
    ((0, 1), (2, 9), None, None),
    ((1, 2), (2**31 - 1, 2**63 - 1), (1, 2), None),
    ((-3,), (-1,), (1,), None),
    ((1, 0), (6, 8), (1, 2), (2, 3)),
    ((0,), (7,), (-1,), (4,)),
    ((-1,), (-(2**63),), (1,), (-1,)),
    ((6, 4), (0, -9), (2, 1), (-2, -3)),
    ((3,), (3,), (1,), None),
    ((-20,), (3,), (2,), None),
    ((1,), (2,), (2,), (5,)),
]


@pytest.mark.parametrize(("starts", "ends", "axes", "steps"), SLICES, ids=str)
def test_slice_matches_differences(
    starts: tuple[int, ...],
    ends: tuple[int, ...],
    axes: tuple[int, ...] | None,
    steps: tuple[int, ...] | None,
) -> None:
    options = [None if integers is None else ints(*integers) for integers in (axes, steps)]
    check_vjp("Slice", numbers(2, 6, 8), ints(*starts), ints(*ends), *options)
    check_vjp("Slice", numbers(2, 6, 8), ints(*starts), ints(*ends), *options, dynamic=(0,))
    if steps is None and (axes is None or min(axes) >= 0):
        attributes: dict[str, Any] = {"starts": starts, "ends": ends}
        if axes is not None:
            attributes["axes"] = axes
        check_vjp("Slice", numbers(2, 6, 8), opset=9, **attributes)


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"), [*SLICES[:3], *SLICES[4:6], SLICES[10]], ids=str
)
def test_slice_of_unknown_sizes_matches_differences(
    starts: tuple[int, ...],
    ends: tuple[int, ...],
    axes: tuple[int, ...] | None,
    steps: tuple[int, ...] | None,
) -> None:
    options = [None if integers is None else ints(*integers) for integers in (axes, steps)]
    check_vjp("Slice", numbers(2, 6, 8), ints(*starts), ints(*ends), *options, dynamic=(0, 1, 2))


@pytest.mark.parametrize("bounds", ["one, near", "one, size", "minus, size"])
def test_slice_with_computed_bounds_matches_differences(bounds: str) -> None:
    model = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, C, W] x) => (float[a, b, c] y)
    <int64[1] one = {{1}}, int64[1] minus = {{-3}}, int64[1] two = {{2}}> {{
        shape = Shape(x)
        size = Gather<axis = 0>(shape, two)
        near = Sub(size, two)
        y = Slice(x, {bounds}, two)
    }}""")
    check_model(model, {"x": numbers(2, 3, 8)}, ["x"], "y")
