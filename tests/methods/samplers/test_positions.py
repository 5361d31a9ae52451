"""The values of a layer around one cell."""

from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Floats
from onnxcam.methods.samplers import SAMPLERS, CleanRun, Samples
from onnxcam.specs import Layer


def draw(layer: Layer, values: Floats, **settings: Any) -> Samples:
    unused: Any = None
    clean = CleanRun(
        image=unused,
        weights=unused,
        read_image=unused,
        values=values,
        layer=layer,
        aspect_ratio=2 / 3,
        color=unused,
        scores=unused,
        to_device=unused,
        recall=unused,
        compute=unused,
    )
    positions = SAMPLERS["positions"].draw
    assert positions is not None
    return positions(clean, **settings)


def kept(samples: Samples, values: Floats, rows: slice) -> Floats:
    """The values of some samples."""
    assert samples.offsets is not None
    return np.asarray(values + samples.offsets[rows])


@pytest.mark.parametrize("axis", [1, 3])
def test_samples_keep_part_of_kernel_inside_grid(axis: int) -> None:
    layer = Layer("f", "Relu", (None, 1, 2, 3) if axis == 1 else (None, 2, 3, 1), axis, True)
    values = np.full((1, 1, 2, 3) if axis == 1 else (1, 2, 3, 1), 16.0, np.float32)
    samples = draw(layer, values)
    assert samples.count == 6
    corner, middle = kept(samples, values, slice(0, 2)).reshape(2, 2, 3)
    assert corner.tolist() == [[4, 2, 0], [2, 1, 0]]
    assert middle.tolist() == [[2, 4, 2], [1, 2, 1]]


def test_tokens_that_are_no_cells_are_kept() -> None:
    layer = Layer(
        "t", "Add", (None, 8, 2), 2, True, cells=(None, None), tokens_before=1, tokens_after=1
    )
    values = np.full((1, 8, 2), 16.0, np.float32)
    samples = draw(layer, values, kernel="cell")
    assert samples.count == 6
    assert samples.named["grid"].shape == (1, 2, 3)  # as the image is wider than high
    last = kept(samples, values, slice(5, 6))[0, :, 0]
    assert last.tolist() == [16, 0, 0, 0, 0, 0, 16, 16]


def test_rows_are_computed_when_they_are_run() -> None:
    """All of them would take 64 MiB times the number of cells."""
    values = np.ones((1, 256, 256, 256), np.float32)
    samples = draw(Layer("f", "Relu", (None, 256, 256, 256), 1, True), values)
    assert kept(samples, values, slice(65_535, 65_536)).shape == (1, 256, 256, 256)
