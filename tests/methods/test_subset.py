"""The map of a subset equals the formula applied to arrays that are zero elsewhere."""

from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Floats
from onnxcam.errors import SettingError
from onnxcam.methods import METHODS
from onnxcam.methods.subset import (
    COUNTED,
    Subset,
    apply_subset,
    cells_of,
    region_mask,
    region_to_json,
    select_channels,
)
from tests.methods.support.formulas import DENSE, feed, run

AVERAGING = {"activation-map"}  # over the feature maps that count, where others add them up
GRID = (4, 5)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("3", [3]),
        ("3,7,10-20", [3, 7, *range(10, 21)]),
        (" 2 - 4 , 0 ", [0, 2, 3, 4]),
        ("5,5,4-6", [4, 5, 6]),
        ([7, 3, 3], [3, 7]),
        (np.array([1, 2]), [1, 2]),
        (range(3), [0, 1, 2]),
        (None, None),
    ],
)
def test_channel_specs_select_numbers(spec: Any, expected: Any) -> None:
    assert select_channels(spec, 21) == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("21", "channel 21"),
        ("0-21", "channel 21"),
        ("0-99999999999999", "channel 21"),  # and does not list them all
        ([-1], "channel -1"),
        ([], "no channel"),
        ("", "expected numbers"),
        ("3;4", "expected numbers"),
        ("a", "expected numbers"),
        ("9" * 5000, "expected numbers"),
        ("-3", "expected numbers"),
        ("7-3", "the range 7-3 is reversed"),
        ("1,7-3", "is reversed"),
        ([1.5], "expected integers"),
        (["1"], "expected integers"),
    ],
)
def test_invalid_channels_are_refused(spec: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        select_channels(spec, 21)
    assert repr(spec) in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "slices"),
    [
        ("1:3,0:2", np.s_[1:3, 0:2]),
        (" 1 : 3 , 0 : 2 ", np.s_[1:3, 0:2]),
        (":,2:", np.s_[:, 2:]),
        ("-1:,:-3", np.s_[-1:, :-3]),
        ("::2,:", np.s_[::2, :]),
        (np.s_[1:3, 0:2], np.s_[1:3, 0:2]),
    ],
)
def test_region_specs_select_cells(spec: Any, slices: Any) -> None:
    expected = np.zeros(GRID)
    expected[slices] = 1
    mask = region_mask(spec, 3, GRID)
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(region_mask(region_to_json(spec), 3, GRID), expected)


@pytest.mark.parametrize("shape", [GRID, (3, *GRID)])
def test_masks_select_cells(shape: tuple[int, ...]) -> None:
    mask = np.random.default_rng(0).random(shape) > 0.5
    expected = mask.astype(float)
    np.testing.assert_array_equal(region_mask(mask, 3, GRID), expected, strict=True)
    numbers: Any = 7 * mask
    np.testing.assert_array_equal(region_mask(numbers, 3, GRID), expected)
    np.testing.assert_array_equal(region_mask(np.array(region_to_json(mask)), 3, GRID), expected)


def test_no_region_is_none() -> None:
    assert region_mask(None, 3, GRID) is None
    assert region_to_json(None) is None


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ("1:3", "expected y0:y1,x0:x1"),
        ("a:b,c:d", "expected y0:y1,x0:x1"),
        ("", "expected y0:y1,x0:x1"),
        ("1:3,0:2,0:1", "expected y0:y1,x0:x1"),
        ((1, 2), "expected y0:y1,x0:x1"),
        (np.s_[0:1, 0:1, 0:1], "expected y0:y1,x0:x1"),
        ("2:2,0:5", "no cell"),
        ("3:1,0:5", "no cell"),
        ("0:5,0:5", "goes beyond the layer, which has 4 x 5 cells"),
        ("0:4,0:6", "goes beyond the layer"),
        (np.s_[-9:, :], "goes beyond the layer"),
        (np.zeros(GRID, bool), "no cell"),
        (np.ones((5, 4), bool), r"mask has shape \(5, 4\), but the layer is 3 x 4 x 5"),
        (np.ones((2, *GRID), bool), "mask has shape"),
    ],
)
def test_invalid_regions_are_refused(region: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        region_mask(region, 3, GRID)


def test_empty_subset_changes_nothing() -> None:
    quantities = feed((2, 3, *GRID))
    selected = apply_subset(quantities, None, None)
    assert all(selected[name] is quantities[name] for name in quantities)


@pytest.mark.parametrize("name", [name for name, row in METHODS.items() if row.has_subsets])
def test_map_of_subset_equals_formula_on_zeroed_arrays(name: str) -> None:
    """Omeiza et al. 2019, section 3.3: k runs over the chosen maps, and (i, j) over the chosen neurons."""
    quantities = feed((2, 6, *GRID))
    zeroed = dict(quantities)
    for quantity, array in quantities.items():
        if quantity in cells_of(quantities):
            zeroed[quantity] = np.zeros_like(array)
            zeroed[quantity][:, [1, 4], 1:3, 0:2] = array[:, [1, 4], 1:3, 0:2]
    mask = region_mask("1:3,0:2", 6, GRID)
    settings = DENSE.get(name, {})
    maps = run(name, apply_subset(quantities, select_channels("1,4", 6), mask), **settings)
    expected = run(name, zeroed, **settings)
    expected *= 3 if name in AVERAGING else 1  # 2 of 6 feature maps are chosen
    np.testing.assert_allclose(maps, expected, rtol=1e-12, atol=1e-14)
    assert maps.any()
    assert not np.delete(maps, np.s_[1:3], axis=1).any()


@pytest.mark.parametrize("channels", [None, "0,2"])
@pytest.mark.parametrize("region", [None, "1:3,0:2", np.arange(60).reshape(3, *GRID) % 7 == 0])
def test_counted_is_one_for_neurons_that_count(channels: Any, region: Any) -> None:
    quantities = {name: array for name, array in feed((2, 3, *GRID)).items() if name != COUNTED}
    counted = Subset(channels, region).select(quantities)[COUNTED]
    mask = region_mask(region, 3, GRID)
    expected = np.ones((3, *GRID)) if mask is None else mask * np.ones((3, 1, 1))
    numbers = [0, 2] if channels else [0, 1, 2]
    np.testing.assert_array_equal(counted, np.stack([expected[numbers]] * 2))


@pytest.mark.parametrize("name", ["score", "sample_scores", "image", "image_gradient"])
def test_quantity_that_is_not_the_layers_is_unchanged(name: str) -> None:
    """Its second axis has no feature maps of the layer, and its cells are others."""
    quantities = feed((2, 6, *GRID))
    selected = apply_subset(quantities, [1, 4], region_mask("1:3,0:2", 6, GRID))
    assert selected[name] is quantities[name]
    assert selected["activation"].shape == (2, 2, *GRID)


def test_masks_may_differ_between_channels() -> None:
    quantities = feed((1, 2, *GRID))
    mask = np.zeros((2, *GRID), bool)
    mask[0, :2] = mask[1, 2:] = True
    maps = run("grad-cam++", apply_subset(quantities, None, region_mask(mask, 2, GRID)))
    terms = [
        run("grad-cam++", apply_subset(quantities, [k], region_mask(mask[k], 2, GRID)))
        for k in range(2)
    ]
    np.testing.assert_allclose(maps, np.add(*terms), rtol=1e-12)


def test_channels_combine_with_masks_per_channel() -> None:
    quantities = feed((1, 3, *GRID))
    mask = np.random.default_rng(0).random((3, *GRID)) > 0.4
    maps = run("grad-cam", apply_subset(quantities, [0, 2], region_mask(mask, 3, GRID)))
    zeroed: dict[str, Floats] = {
        quantity: array * mask * [[[1]], [[0]], [[1]]]
        for quantity, array in quantities.items()
        if quantity in ("activation", "gradient")
    }
    np.testing.assert_allclose(maps, run("grad-cam", zeroed), rtol=1e-12, atol=1e-14)
