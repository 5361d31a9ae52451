"""The map of chosen feature maps and neurons is the formula's on arrays that are zero elsewhere."""

from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Floats
from onnxcam.errors import SettingError
from onnxcam.methods import METHODS
from onnxcam.methods.subset import chosen_channels, region_mask, region_to_json, subset
from tests.methods.support.formulas import feed, run

GRID = (4, 5)


@pytest.mark.parametrize(
    ("spec", "found"),
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
def test_channels(spec: Any, found: Any) -> None:
    assert chosen_channels(spec, 21) == found


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("21", "channel 21"),
        ("0-21", "channel 21"),
        ("0-99999999999999", "channel 21"),  # and not a list of all of them
        ([-1], "channel -1"),
        ([], "no channel"),
        ("", "expected numbers"),
        ("3;4", "expected numbers"),
        ("a", "expected numbers"),
        ("9" * 5000, "expected numbers"),
        ("-3", "expected numbers"),
        ("7-3", "backwards"),
        ("1,7-3", "backwards"),
        ([1.5], "whole numbers"),
        (["1"], "whole numbers"),
    ],
)
def test_channels_that_are_not_there(spec: Any, said: str) -> None:
    with pytest.raises(SettingError, match=said) as caught:
        chosen_channels(spec, 21)
    assert repr(spec) in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ("1:3,0:2", np.s_[1:3, 0:2]),
        (" 1 : 3 , 0 : 2 ", np.s_[1:3, 0:2]),
        (":,2:", np.s_[:, 2:]),
        ("-1:,:-3", np.s_[-1:, :-3]),
        ("::2,:", np.s_[::2, :]),
        (np.s_[1:3, 0:2], np.s_[1:3, 0:2]),
    ],
)
def test_regions(spec: Any, where: Any) -> None:
    expected = np.zeros(GRID)
    expected[where] = 1
    mask = region_mask(spec, 3, GRID)
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(region_mask(region_to_json(spec), 3, GRID), expected)


@pytest.mark.parametrize("shape", [GRID, (3, *GRID)])
def test_masks(shape: tuple[int, ...]) -> None:
    mask = np.random.default_rng(0).random(shape) > 0.5
    found = region_mask(mask, 3, GRID)
    assert found is not None
    np.testing.assert_array_equal(found, mask.astype(float))
    numbers: Any = 7 * mask
    np.testing.assert_array_equal(region_mask(numbers, 3, GRID), found)
    np.testing.assert_array_equal(region_mask(np.array(region_to_json(mask)), 3, GRID), found)


def test_no_region_is_none() -> None:
    assert region_mask(None, 3, GRID) is None
    assert region_to_json(None) is None


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ("1:3", "expected y0:y1,x0:x1"),
        ("a:b,c:d", "expected y0:y1,x0:x1"),
        ("", "expected y0:y1,x0:x1"),
        ("1:3,0:2,0:1", "expected y0:y1,x0:x1"),
        ((1, 2), "expected y0:y1,x0:x1"),
        (np.s_[0:1, 0:1, 0:1], "expected y0:y1,x0:x1"),
        ("2:2,0:5", "no cell"),
        ("3:1,0:5", "no cell"),
        ("0:5,0:5", "outside the layer, which is 4 x 5"),
        ("0:4,0:6", "outside the layer"),
        (np.s_[-9:, :], "outside the layer"),
        (np.zeros(GRID, bool), "no cell"),
        (np.ones((5, 4), bool), r"mask of shape \(5, 4\); the layer is 3 x 4 x 5"),
        (np.ones((2, *GRID), bool), "mask of shape"),
    ],
)
def test_regions_that_do_not_fit(region: Any, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        region_mask(region, 3, GRID)


def test_nothing_chosen_is_everything() -> None:
    given = feed((2, 3, *GRID))
    found = subset(given, None, None)
    assert all(found[name] is given[name] for name in given)


@pytest.mark.parametrize("name", METHODS)
def test_the_map_of_a_subset_is_the_formula_on_zeroed_arrays(name: str) -> None:
    """Omeiza et al. 2019, section 3.3: k runs over the chosen maps, and (i, j) over the chosen neurons."""
    given = feed((2, 6, *GRID))
    zeroed = {each: np.zeros_like(value) for each, value in given.items()}
    for each, value in given.items():
        if value.ndim == 4:
            zeroed[each][:, [1, 4], 1:3, 0:2] = value[:, [1, 4], 1:3, 0:2]
        else:
            zeroed[each][:, [1, 4]] = value[:, [1, 4]]
    mask = region_mask("1:3,0:2", 6, GRID)
    found = run(name, subset(given, chosen_channels("1,4", 6), mask))
    np.testing.assert_allclose(found, run(name, zeroed), rtol=1e-12, atol=1e-14)
    assert found.any()
    assert not np.delete(found, np.s_[1:3], axis=1).any()


def test_a_mask_may_differ_from_map_to_map() -> None:
    given = feed((1, 2, *GRID))
    mask = np.zeros((2, *GRID), bool)
    mask[0, :2] = mask[1, 2:] = True
    found = run("grad-cam++", subset(given, None, region_mask(mask, 2, GRID)))
    alone = [run("grad-cam++", subset(given, [k], region_mask(mask[k], 2, GRID))) for k in range(2)]
    np.testing.assert_allclose(found, np.add(*alone), rtol=1e-12)


def test_channels_are_chosen_together_with_a_mask_for_each() -> None:
    given = feed((1, 3, *GRID))
    mask = np.random.default_rng(0).random((3, *GRID)) > 0.4
    found = run("grad-cam", subset(given, [0, 2], region_mask(mask, 3, GRID)))
    zeroed: dict[str, Floats] = {
        each: value * mask * [[[1]], [[0]], [[1]]]
        for each, value in given.items()
        if value.ndim == 4
    }
    np.testing.assert_allclose(found, run("grad-cam", zeroed), rtol=1e-12, atol=1e-14)
