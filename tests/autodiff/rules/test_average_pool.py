"""AveragePool and global pools: every window, and what an average counts."""

from typing import Any

import pytest

from tests.autodiff.support.check import check_vjp, numbers
from tests.autodiff.support.pool_windows import DILATED, SIZES, WINDOWS


@pytest.mark.parametrize("dynamic", SIZES, ids=str)
@pytest.mark.parametrize("include_pad", [0, 1])
@pytest.mark.parametrize("window", [*WINDOWS, *DILATED])
def test_average_pool_matches_differences(
    window: str, include_pad: int, dynamic: tuple[int, ...]
) -> None:
    size, attributes = (WINDOWS | DILATED)[window]
    check_vjp(
        "AveragePool",
        numbers(*size),
        dynamic=dynamic,
        opset=19,
        count_include_pad=include_pad,
        **attributes,
    )


TILES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "even": ((2, 3, 4, 6), {"kernel_shape": [2, 3]}),
    "tail": ((1, 2, 7, 8), {"kernel_shape": [3, 3]}),
    "ceil": ((1, 2, 7, 8), {"kernel_shape": [3, 3], "ceil_mode": 1}),
    "one dimension": ((1, 2, 7), {"kernel_shape": [2]}),
    "three dimensions": ((1, 2, 4, 5, 6), {"kernel_shape": [2, 2, 3]}),
}


@pytest.mark.parametrize("dynamic", [(), (0,)], ids=str)
@pytest.mark.parametrize("include_pad", [0, 1])
@pytest.mark.parametrize("window", TILES)
def test_average_pool_that_tiles_repeats_its_shares(
    window: str, include_pad: int, dynamic: tuple[int, ...]
) -> None:
    """Windows that neither overlap nor leave gaps need no convolution."""
    size, attributes = TILES[window]
    attributes = {
        **attributes,
        "strides": attributes["kernel_shape"],
        "count_include_pad": include_pad,
    }
    model = check_vjp("AveragePool", numbers(*size), dynamic=dynamic, **attributes)
    assert not any("Conv" in node.op for node in model.graph.nodes)


@pytest.mark.parametrize("dynamic", [(), (0,)], ids=str)
@pytest.mark.parametrize("include_pad", [0, 1])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (5, 7)])
@pytest.mark.parametrize("opset", [10, 17])
def test_average_pool_of_one_window_needs_no_kernel(
    opset: int, strides: tuple[int, ...], include_pad: int, dynamic: tuple[int, ...]
) -> None:
    """Many exports end in such a pool; its kernel of ones was as large as the layer."""
    attributes: dict[str, Any] = {"kernel_shape": [4, 6], "strides": [*strides]}
    attributes["count_include_pad"] = include_pad
    model = check_vjp(
        "AveragePool", numbers(2, 3, 4, 6), dynamic=dynamic, opset=opset, **attributes
    )
    assert not any("Conv" in node.op for node in model.graph.nodes)


@pytest.mark.parametrize("opset", [7, 10, 11, 22])
def test_average_pool_at_opset_matches_differences(opset: int) -> None:
    size, attributes = WINDOWS["uneven pads"]
    check_vjp("AveragePool", numbers(*size), opset=opset, **attributes)


@pytest.mark.parametrize("dynamic", SIZES, ids=str)
@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("size", [(2, 3, 5), (2, 3, 4, 5), (1, 2, 3, 2, 4)])
def test_global_pool_matches_differences(
    op: str, size: tuple[int, ...], dynamic: tuple[int, ...]
) -> None:
    check_vjp(op, numbers(*size), dynamic=dynamic)
