"""ScatterElements and ScatterND: updates that overwrite and that are added."""

from typing import Any

import numpy as np
import pytest

from onnxcam.errors import ModelError
from tests.autodiff.support.check import check_vjp, numbers

DYNAMIC = pytest.mark.parametrize("dynamic", [(), (0,), (1, 2), (0, 1, 2)], ids=str)


@DYNAMIC
@pytest.mark.parametrize("reduction", [None, "none", "add"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_scatter_elements_matches_differences(
    axis: int, reduction: str | None, dynamic: tuple[int, ...]
) -> None:
    indices = np.argsort(numbers(3, 3, 3), axis=axis)[:2, :2, :2]
    attributes: dict[str, Any] = {"axis": axis} | ({"reduction": reduction} if reduction else {})
    x, updates = numbers(3, 3, 3), numbers(2, 2, 2, seed=1)
    opset = 16 if reduction else 11
    check_vjp(
        "ScatterElements",
        x,
        indices,
        updates,
        wrt=(0, 2),
        opset=opset,
        dynamic=dynamic,
        **attributes,
    )


@DYNAMIC
@pytest.mark.parametrize("reduction", [None, "none", "add"])
def test_scatter_nd_matches_differences(reduction: str | None, dynamic: tuple[int, ...]) -> None:
    options: dict[str, Any] = {"reduction": reduction} if reduction else {}
    x, rows, cells = numbers(2, 4, 3), np.array([[1, 3], [0, -2]]), np.array([[[1, 0, 2]]])
    dynamic = tuple(axis for axis in dynamic if axis)  # updates have fewer axes
    opset = 16 if reduction else 11
    options |= {"opset": opset, "wrt": (0,), "dynamic": dynamic}
    check_vjp("ScatterND", x, rows, numbers(2, 3, seed=1), **options)
    options |= {"wrt": (0, 2), "dynamic": ()}
    check_vjp("ScatterND", x, rows, numbers(2, 3, seed=1), **options)
    check_vjp("ScatterND", x, cells, numbers(1, 1, seed=1), **options)


def test_added_updates_at_one_index_match_differences() -> None:
    x, updates, rows = numbers(4, 3), numbers(5, 3, seed=1), np.array([[1], [1], [0], [1], [0]])
    check_vjp("ScatterND", x, rows, updates, wrt=(0, 2), opset=16, reduction="add")


@pytest.mark.parametrize("reduction", ["mul", "max", "min"])
def test_scatter_with_other_reduction_is_refused(reduction: str) -> None:
    x, indices = numbers(4, 3), np.zeros((1, 3), np.int64)
    with pytest.raises(ModelError, match=f"reduction '{reduction}', which has no gradient rule"):
        check_vjp("ScatterElements", x, indices, x[:1], opset=18, reduction=reduction)
