"""The Feature Explanation Method."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Floats
from onnxcam.methods import METHODS
from tests.methods.support import cam_twins
from tests.methods.support.compare import NETS
from tests.methods.support.compare_layer import (
    VITS,
    assert_layer_map_equals_twin,
    assert_map_of_part_equals_twin,
    assert_token_map_equals_twin,
)
from tests.methods.support.formulas import run
from tests.support.layered_nets import PIECEWISE

THRESHOLD = 1.2  # layers of a few cells have few values further above the mean
TWIN = partial(cam_twins.fem, threshold=THRESHOLD)


def test_map_equals_twin() -> None:
    assert_layer_map_equals_twin("fem", PIECEWISE, cam_twins.fem)


@pytest.mark.parametrize("net", NETS)
def test_map_of_lower_threshold_equals_twin(net: str) -> None:
    assert_layer_map_equals_twin("fem", NETS[net], TWIN, threshold=THRESHOLD)


@pytest.mark.parametrize("vit", VITS)
def test_map_of_tokens_equals_twin(vit: str) -> None:
    assert_token_map_equals_twin("fem", VITS[vit], TWIN, threshold=THRESHOLD)


def test_map_of_part_is_that_of_a_smaller_layer() -> None:
    """The means and standard deviations are those of the cells of the region."""
    assert_map_of_part_equals_twin("fem", PIECEWISE, TWIN, threshold=THRESHOLD)


def test_method_needs_neither_target_nor_gradient() -> None:
    assert not METHODS["fem"].needs_target
    assert not METHODS["fem"].needs_gradient


def fem(*rows: list[float], **settings: Any) -> Floats:
    """The map of feature maps of one row."""
    activation = np.array(rows).reshape(1, len(rows), 1, -1)
    counted = np.ones_like(activation)
    result: Floats = run("fem", {"activation": activation, "counted": counted}, **settings)
    return result[0, 0]


def test_unusual_cells_get_mean_of_feature_map() -> None:
    high = [0.0] * 9 + [10.0]  # mean 1, standard deviation 3
    np.testing.assert_allclose(fem(high), [0.0] * 9 + [1.0])
    np.testing.assert_allclose(fem(high, [9.0, *[-1.0] * 9]), [0.0] * 9 + [1.0])  # mean 0
    np.testing.assert_allclose(fem(high, high[::-1], high), [1.0, *[0.0] * 8, 2.0])


@pytest.mark.parametrize("unit", [1.0, 0.1, 1 / 3, 1e-30, 7e20])
def test_cell_at_the_threshold_is_unusual_whatever_the_rounding(unit: float) -> None:
    """Of five values 0, 0, 0, 0, a the last one is exactly two standard deviations above the mean."""
    np.testing.assert_allclose(fem([0.0] * 4 + [unit]), [0.0] * 4 + [unit / 5])
    np.testing.assert_allclose(fem([unit] * 4 + [3 * unit]), [0.0] * 4 + [1.4 * unit])


@pytest.mark.parametrize("value", [0.0, 0.1, 5.0, -2.0])
def test_flat_feature_map_has_no_unusual_cell(value: float) -> None:
    """Nothing is above the mean, whatever the rounding of the mean."""
    assert not fem([value] * 7).any()
    assert not fem([value] * 7, threshold=0.0).any()


def test_negative_mean_is_evidence_against_cell() -> None:
    negative = [-5.0] * 9 + [0.0]  # mean -4.5
    high = [0.0] * 9 + [100.0]  # mean 10
    assert not fem(negative).any()
    np.testing.assert_allclose(fem(negative, high), [0.0] * 9 + [5.5])


def test_lower_threshold_marks_more_cells() -> None:
    values = [0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 3.0, 4.0]
    marked = [np.count_nonzero(fem(values, threshold=number)) for number in (0.0, 1.0, 2.0)]
    assert marked == [3, 2, 0]
