"""Operators that rearrange cells, or add along an axis."""

from typing import Any

import numpy as np
import pytest

from tests.autodiff.support.check import check_vjp, ints, numbers

DYNAMIC = pytest.mark.parametrize("dynamic", [(), (0,), (0, 2, 3)], ids=str)


@DYNAMIC
@pytest.mark.parametrize("mode", [None, "DCR", "CRD"])
def test_depth_to_space_matches_differences(mode: str | None, dynamic: tuple[int, ...]) -> None:
    attributes: dict[str, Any] = {"mode": mode} if mode else {}
    check_vjp("DepthToSpace", numbers(2, 12, 3, 2), blocksize=2, dynamic=dynamic, **attributes)
    check_vjp("DepthToSpace", numbers(1, 9, 2, 3), blocksize=3, dynamic=dynamic, **attributes)
    if mode is None:
        check_vjp("DepthToSpace", numbers(2, 12, 3, 2), blocksize=2, opset=7, dynamic=dynamic)


@DYNAMIC
@pytest.mark.parametrize("opset", [7, 13])
def test_space_to_depth_matches_differences(opset: int, dynamic: tuple[int, ...]) -> None:
    check_vjp("SpaceToDepth", numbers(2, 3, 4, 6), blocksize=2, opset=opset, dynamic=dynamic)


@DYNAMIC
@pytest.mark.parametrize("repeats", [(1, 1, 1, 1), (1, 2, 1, 3), (2, 1, 2, 1), (3, 2, 1, 2)])
@pytest.mark.parametrize("opset", [7, 13])
def test_tile_matches_differences(
    opset: int, repeats: tuple[int, ...], dynamic: tuple[int, ...]
) -> None:
    check_vjp("Tile", numbers(2, 1, 3, 2), ints(*repeats), opset=opset, dynamic=dynamic)


@DYNAMIC
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("axis", [0, 2, -1])
def test_cumulative_sum_matches_differences(
    axis: int, exclusive: int, reverse: int, dynamic: tuple[int, ...]
) -> None:
    attributes: dict[str, Any] = {"exclusive": exclusive, "reverse": reverse}
    check_vjp(
        "CumSum", numbers(2, 3, 4, 2), np.array(axis), opset=14, dynamic=dynamic, **attributes
    )


@DYNAMIC
@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [None, 0, -1, 2])
def test_trilu_matches_differences(k: int | None, upper: int, dynamic: tuple[int, ...]) -> None:
    check_vjp(
        "Trilu",
        numbers(2, 3, 4, 5),
        None if k is None else np.array(k),
        upper=upper,
        dynamic=dynamic,
    )


@pytest.mark.parametrize("batch", [0, 1])
def test_reverse_sequence_matches_differences(batch: int) -> None:
    x = numbers(3, 3, 4)
    check_vjp("ReverseSequence", x, ints(2, 1, 3), batch_axis=batch, time_axis=1 - batch)
