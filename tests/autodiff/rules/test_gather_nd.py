"""GatherND by tuples for rows and cells, also within a batch."""

import numpy as np
import pytest

from tests.autodiff.support.check import check_vjp, numbers

DYNAMIC = pytest.mark.parametrize("dynamic", [(), (0,), (1, 2), (0, 1, 2)], ids=str)


TUPLES = {
    "rows": (0, np.array([[1], [0], [1]])),
    "pairs": (0, np.array([[0, 1], [-2, 3], [0, 1]])),
    "cells": (0, np.array([[[0, 1, 2]], [[1, -1, -3]]])),
    "rows of a batch": (1, np.array([[2], [-1]])),
    "cells of a batch": (1, np.array([[[2, 0], [2, 0]], [[-1, 1], [0, 2]]])),
    "cells of a row of a batch": (2, np.arange(8).reshape(2, 4, 1) % 3),
}


@DYNAMIC
@pytest.mark.parametrize("opset", [12, 17])
@pytest.mark.parametrize("tuples", TUPLES)
def test_gather_nd_matches_differences(tuples: str, opset: int, dynamic: tuple[int, ...]) -> None:
    batch, indices = TUPLES[tuples]
    x = numbers(2, 4, 3)
    check_vjp("GatherND", x, indices, batch_dims=batch, opset=opset, dynamic=dynamic)
