"""AveragePool and global pools: every window, and what an average counts."""

from typing import Any

import pytest

from tests.autodiff.support.check import check_vjp, numbers
from tests.autodiff.support.pool_windows import DILATED, SIZES, WINDOWS


@pytest.mark.parametrize("dynamic", SIZES, ids=str)
@pytest.mark.parametrize("include_pad", [0, 1])
@pytest.mark.parametrize("window", [*WINDOWS, *DILATED])
def test_average_pool(window: str, include_pad: int, dynamic: tuple[int, ...]) -> None:
    size, attributes = (WINDOWS | DILATED)[window]
    check_vjp(
        "AveragePool",
        numbers(*size),
        dynamic=dynamic,
        opset=19,
        count_include_pad=include_pad,
        **attributes,
    )


SIDE_BY_SIDE: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "even": ((2, 3, 4, 6), {"kernel_shape": [2, 3]}),
    "tail": ((1, 2, 7, 8), {"kernel_shape": [3, 3]}),
    "hanging over": ((1, 2, 7, 8), {"kernel_shape": [3, 3], "ceil_mode": 1}),
    "one dimension": ((1, 2, 7), {"kernel_shape": [2]}),
    "three dimensions": ((1, 2, 4, 5, 6), {"kernel_shape": [2, 2, 3]}),
}


@pytest.mark.parametrize("dynamic", [(), (0,)], ids=str)
@pytest.mark.parametrize("include_pad", [0, 1])
@pytest.mark.parametrize("window", SIDE_BY_SIDE)
def test_average_pool_side_by_side(window: str, include_pad: int, dynamic: tuple[int, ...]) -> None:
    """The shares are repeated, which is no convolution."""
    size, given = SIDE_BY_SIDE[window]
    given = {**given, "strides": given["kernel_shape"], "count_include_pad": include_pad}
    model = check_vjp("AveragePool", numbers(*size), dynamic=dynamic, **given)
    assert not any("Conv" in each.op for each in model.graph.nodes)


@pytest.mark.parametrize("opset", [7, 10, 11, 22])
def test_average_pool_of_every_opset(opset: int) -> None:
    size, attributes = WINDOWS["uneven pads"]
    check_vjp("AveragePool", numbers(*size), opset=opset, **attributes)


@pytest.mark.parametrize("dynamic", SIZES, ids=str)
@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("size", [(2, 3, 5), (2, 3, 4, 5), (1, 2, 3, 2, 4)])
def test_global_pool(op: str, size: tuple[int, ...], dynamic: tuple[int, ...]) -> None:
    check_vjp(op, numbers(*size), dynamic=dynamic)
