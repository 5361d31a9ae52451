"""Random masks of the image."""

import numpy as np
import pytest

from onnxcam.methods.samplers.masks import RandomMasks
from tests.methods.support.image_twins import rise_mask
from tests.methods.support.written import run_written


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (5, 40)])
@pytest.mark.parametrize("cells", [1, 3, 7])
def test_mask_equals_twin_of_its_cells(size: tuple[int, int], cells: int) -> None:
    drawn = RandomMasks(size, cells, 0.4, 5)
    for number, mask in enumerate(drawn.draw(0, 6)):
        stream = np.random.Generator(np.random.SFC64([5, number]))
        grid = (stream.random((cells, cells)) < 0.4) * 1.0
        shift = [int(part * -(-side // cells)) for part, side in zip(stream.random(2), size)]  # noqa: B905
        expected = rise_mask(grid, (shift[0], shift[1]), *size)
        np.testing.assert_allclose(mask[0], expected, atol=1e-6)


def test_mask_depends_on_seed_and_number_only() -> None:
    masks = RandomMasks((8, 9), 3, 0.5, 0).draw(0, 5)
    np.testing.assert_array_equal(RandomMasks((8, 9), 3, 0.5, 0).draw(3, 5), masks[3:])
    assert np.abs(RandomMasks((8, 9), 3, 0.5, 1).draw(0, 5) - masks).max() > 0.5


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_mean_of_masks_is_probability(kept: float) -> None:
    masks = RandomMasks((16, 16), 4, kept, 0).draw(0, 2000)
    assert masks.mean() == pytest.approx(kept, abs=0.02)
    assert np.ptp(masks.mean(axis=0)) < 0.1
    assert masks.min() == 0
    assert masks.max() == 1


def test_finest_grid_has_cells_of_one_pixel() -> None:
    masks = RandomMasks((4, 4), 9, 0.5, 0).draw(0, 3)
    assert masks.shape == (3, 1, 4, 4)
    assert np.isfinite(masks).all()


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (5, 40), (224, 224)])
@pytest.mark.parametrize("cells", [1, 3, 7])
def test_masks_from_tables_equal_masks_that_are_run(size: tuple[int, int], cells: int) -> None:
    drawn = RandomMasks(size, cells, 0.4, 5)
    tables = drawn.tables(6)
    assert [table.dtype for table in tables] == [np.uint8, np.float32]
    masks = drawn.draw(0, 6)[:, 0]
    np.testing.assert_array_equal(drawn.enlarge(*tables), masks)
    named = {"cells": tables[0], "starts": tables[1]}
    written = run_written(drawn.enlarge, named)
    np.testing.assert_array_equal(written, masks)
