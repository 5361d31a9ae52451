"""Scales, biases and sizes for tests of normalizations."""

from typing import Any

import pytest
from numpy.typing import NDArray

from tests.autodiff.support.check import numbers

UNKNOWN_SIZES = pytest.mark.parametrize("dynamic", [(), (0,), (0, 1, 2, 3)], ids=str)


def scale_and_bias(*shape: int) -> list[NDArray[Any]]:
    return [numbers(*shape, seed=1, low=0.5, high=2.0), numbers(*shape, seed=2)]
