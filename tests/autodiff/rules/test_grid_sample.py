"""GridSample: positions inside, beyond the borders, in two and three dimensions."""

from typing import Any

import pytest

from tests.autodiff.support.check import check_vjp, numbers

MODES = ["bilinear", "nearest", "bicubic"]
PADDINGS = ["zeros", "border", "reflection"]


@pytest.mark.parametrize("dynamic", [(), (0,), (0, 2, 3)], ids=str)
@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("mode", MODES)
def test_grid_sample_matches_differences(
    mode: str, padding: str, align: int, dynamic: tuple[int, ...]
) -> None:
    check_vjp(
        "GridSample",
        numbers(2, 3, 4, 5),
        numbers(2, 3, 4, 2, low=-1.7, high=1.9),
        wrt=(0, 1),
        opset=16,
        dynamic=tuple(axis for axis in dynamic if axis < 3),
        mode=mode,
        padding_mode=padding,
        align_corners=align,
    )


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_grid_sample_of_volumes_matches_differences(mode: str, padding: str, align: int) -> None:
    check_vjp(
        "GridSample",
        numbers(2, 2, 3, 4, 5),
        numbers(2, 2, 3, 2, 3, low=-1.4, high=1.5),
        wrt=(0, 1),
        opset=20,
        mode=mode,
        padding_mode=padding,
        align_corners=align,
    )


@pytest.mark.parametrize("padding", PADDINGS)
def test_grid_sample_of_one_row_matches_differences(padding: str) -> None:
    grid = numbers(1, 2, 3, 2, low=-2, high=2)
    attributes: dict[str, Any] = {"padding_mode": padding, "align_corners": 0}
    check_vjp("GridSample", numbers(1, 2, 1, 5), grid, wrt=(0, 1), opset=16, **attributes)


def test_repeated_position_adds_its_cotangents_exactly() -> None:
    """Never by ScatterND, which loses updates with more than one thread."""
    grid = numbers(1, 1, 1, 2).repeat(50, axis=2)
    model = check_vjp("GridSample", numbers(1, 2, 3, 3), grid, opset=16)
    assert not any(node.op == "ScatterND" for node in model.graph.nodes)
