"""InstanceNormalization and GroupNormalization with their scale and bias."""

from typing import Any

import pytest

from tests.autodiff.support.check import check_vjp, numbers
from tests.autodiff.support.norms import UNKNOWN_SIZES, scale_and_bias


@UNKNOWN_SIZES
@pytest.mark.parametrize("size", [(2, 3, 7), (2, 3, 4, 5), (1, 3, 2, 3, 2)])
@pytest.mark.parametrize("opset", [7, 17, 22])
def test_instance_normalization_matches_differences(
    opset: int, size: tuple[int, ...], dynamic: tuple[int, ...]
) -> None:
    options: dict[str, Any] = {
        "opset": opset,
        "dynamic": [axis for axis in dynamic if axis < len(size)],
    }
    check_vjp("InstanceNormalization", numbers(*size), *scale_and_bias(3), epsilon=1e-2, **options)


def test_instance_normalization_parameters_match_differences() -> None:
    check_vjp("InstanceNormalization", numbers(2, 3, 4), *scale_and_bias(3), wrt=(0, 1, 2))


@UNKNOWN_SIZES
@pytest.mark.parametrize("size", [(2, 6, 3), (1, 6, 2, 3), (2, 6, 2, 3, 2), (3, 6, 2, 1)])
@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("opset", [21, 23])
def test_group_normalization_matches_differences(
    opset: int, groups: int, size: tuple[int, ...], dynamic: tuple[int, ...]
) -> None:
    sizes = [axis for axis in dynamic if axis < len(size)]
    options: dict[str, Any] = {"opset": opset, "dynamic": sizes, "num_groups": groups}
    check_vjp("GroupNormalization", numbers(*size), *scale_and_bias(6), epsilon=1e-2, **options)


@pytest.mark.parametrize("dynamic", [(), (0, 2, 3)], ids=str)
def test_group_normalization_parameters_match_differences(dynamic: tuple[int, ...]) -> None:
    x = numbers(2, 6, 3, 2)
    options: dict[str, Any] = {"opset": 21, "num_groups": 3}
    check_vjp(
        "GroupNormalization", x, *scale_and_bias(6), wrt=(0, 1, 2), dynamic=dynamic, **options
    )
