"""Windows of an image."""

import numpy as np
import pytest

from onnxcam.methods.samplers import SAMPLERS
from onnxcam.methods.samplers.windows import Axis, place_windows
from onnxcam.specs import Layer
from tests.methods.support import perturbation_twins as twins


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (3, 40)])
@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 1), (3, 3), (4, 3), (50, 1), (50, 3)])
def test_masks_hide_windows_of_twin(size: tuple[int, int], window: int, stride: int) -> None:
    placed = place_windows(size, window, stride)
    height, width = (min(window, side) for side in size)
    rows, columns = placed.rows.starts, placed.columns.starts
    masks = placed.masks(*placed.corners)
    assert masks.dtype == np.float32
    for mask, (top, left) in zip(masks, ((i, j) for i in rows for j in columns), strict=True):
        expected = np.ones(size)
        expected[top : top + height, left : left + width] = 0
        np.testing.assert_array_equal(mask, expected)
    assert not masks.min(axis=0).any(), "every pixel lies in a window"


def test_windows_of_square_images_are_those_of_twin() -> None:
    for size, side, stride in ((8, 3, 2), (10, 5, 5), (9, 9, 4)):
        placed = place_windows((size, size), side, stride)
        pairs = [(int(i), int(j)) for i in placed.rows.starts for j in placed.columns.starts]
        assert pairs == [*twins.windows(size, size, side, stride)]


def test_last_window_ends_at_border() -> None:
    assert Axis(10, 4, 3).starts.tolist() == [0, 3, 6]
    assert Axis(11, 4, 3).starts.tolist() == [0, 3, 6, 7]
    assert Axis(4, 4, 3).starts.tolist() == [0]


def test_shares_are_means() -> None:
    shares = Axis(11, 4, 3).shares
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert shares[0, :, 8].tolist() == [0, 0, 0.5, 0.5]


def test_number_of_windows_is_known_before_they_are_drawn() -> None:
    """169 with the default settings, as the sampler's description says."""
    sampler = SAMPLERS["windows"]
    settings = {name: setting.default for name, setting in sampler.settings.items()}
    fixed, free = (Layer("x", "", (None, 3, n, n), 1, is_bottleneck=True) for n in (224, None))
    assert sampler.count(fixed, settings) == 169
    assert sampler.count(fixed, {**settings, "window": 112, "stride": 100}) == 9
    assert sampler.count(free, settings) is None
