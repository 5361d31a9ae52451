"""Noise that is cut out of a tile."""

import numpy as np
import pytest

from onnxcam.arrays import Array, Floats
from onnxcam.methods.samplers.tile import (
    CLIP,
    LEVELS,
    MARGIN,
    STEP,
    TileNoise,
    dequantize,
    draw_symmetry,
)
from tests.methods.support.written import run_written

SHAPE = (3, 6, 8)


def deviates(noise: TileNoise, count: int) -> Array:
    return np.asarray(dequantize(noise[0:count], noise.steps(count)))


def test_tile_is_a_little_larger_than_the_image() -> None:
    tile = TileNoise.draw(0, SHAPE, 1).tile
    assert (tile.shape, tile.dtype) == ((1, 3, 6 + MARGIN, 8 + MARGIN), np.int8)
    assert np.abs(TileNoise.draw(0, (3, 224, 224), 1).tile).max() == LEVELS
    assert pytest.approx(CLIP) == LEVELS * STEP


@pytest.mark.parametrize("shape", [SHAPE, (3, 7, 7), (1, 7, 7)])
def test_sample_is_a_crop_under_its_symmetry(shape: tuple[int, ...]) -> None:
    noise = TileNoise.draw(4, shape, 1)
    seen = set()
    for number, (sample, step) in enumerate(zip(noise[0:32], noise.steps(32), strict=True)):
        symmetry = noise.symmetry(number)
        (top, left), (up, back) = symmetry.start, symmetry.flipped
        expected = noise.tile[0, :, top : top + shape[1], left : left + shape[2]]
        expected = expected[list(symmetry.channels)]
        expected = expected[:, ::-1] if up else expected
        expected = expected[:, :, ::-1] if back else expected
        assert shape[1] == shape[2] or not symmetry.transposed
        if symmetry.transposed:
            expected = expected.transpose(0, 2, 1)
        np.testing.assert_array_equal(sample, expected)
        assert step.item() == np.float32(symmetry.sign * STEP)
        seen.add((up, back, symmetry.transposed, symmetry.sign))
    assert len(seen) > (6 if shape[1] != shape[2] else 12)


def test_all_crops_lie_in_the_tile() -> None:
    drawn = [draw_symmetry(0, number, 3, is_square=True) for number in range(1000)]
    for axis in (0, 1):
        assert {symmetry.start[axis] for symmetry in drawn} == {*range(MARGIN + 1)}
    assert abs(sum(symmetry.sign for symmetry in drawn)) < 100


@pytest.mark.parametrize(
    ("channels", "is_square", "count"), [(1, True, 8), (3, True, 48), (3, False, 24), (6, True, 48)]
)
def test_no_symmetry_is_used_twice_before_all_are(
    channels: int, is_square: bool, count: int
) -> None:
    drawn = [draw_symmetry(7, number, channels, is_square=is_square) for number in range(2 * count)]
    kinds = [(s.flipped, s.transposed, s.channels) for s in drawn]
    assert len({*kinds[:count]}) == len({*kinds[count:]}) == count
    assert kinds[:count] != kinds[count:]
    assert all(sorted(s.channels) == [*range(channels)] for s in drawn)


def test_samples_do_not_depend_on_slices_or_their_number() -> None:
    noise = TileNoise.draw(1, SHAPE, 1)
    np.testing.assert_array_equal(noise[3:7], noise[0:10][3:7])
    np.testing.assert_array_equal(noise.steps(4), noise.steps(10)[:4])


def test_layout_only_moves_the_channels() -> None:
    last = TileNoise.draw(1, (6, 8, 3), 3)
    np.testing.assert_array_equal(last[0:5], np.moveaxis(TileNoise.draw(1, SHAPE, 1)[0:5], 1, 3))


def test_seeds_differ_in_tile_and_symmetries() -> None:
    first, second = TileNoise.draw(0, SHAPE, 1), TileNoise.draw(1, SHAPE, 1)
    assert np.mean(first.tile == second.tile) < 0.1
    assert [first.symmetry(n) for n in range(5)] != [second.symmetry(n) for n in range(5)]


@pytest.mark.parametrize("seed", range(3))
def test_tile_noise_is_standard_normal(seed: int) -> None:
    noise = deviates(TileNoise.draw(seed, (3, 112, 112), 1), 50).astype(np.float64)
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert abs(np.mean(noise**4) - 3) < 0.1
    of_pixel = noise.std(axis=0)  # over the samples
    assert of_pixel.mean() == pytest.approx(1, abs=0.02)
    assert of_pixel.min() > 0.5
    matrix: Floats = np.asarray(np.corrcoef(noise.reshape(50, -1)))
    correlations = matrix[np.triu_indices(50, 1)]
    assert np.abs(correlations).mean() < 0.01


@pytest.mark.parametrize("shape", [SHAPE, (3, 7, 7)])
@pytest.mark.parametrize("axis", [1, 3])
def test_tile_noise_has_the_same_bits_in_a_graph(axis: int, shape: tuple[int, ...]) -> None:
    arranged = shape if axis == 1 else (*shape[1:], shape[0])
    noise = TileNoise.draw(2, arranged, axis)
    written = run_written(
        lambda tile: dequantize(TileNoise(tile, 2, axis)[0:20], noise.steps(20)),
        {"tile": noise.tile},
        opset=10,
    )
    assert written.dtype == np.float32
    np.testing.assert_array_equal(written, deviates(noise, 20))
