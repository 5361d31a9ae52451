"""Maps from the noise of a tile are as good as those from independent noise."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.arrays import Floats
from onnxcam.methods.samplers import tile
from onnxcam.methods.samplers.tile import Symmetry

MODELS = Path(__file__).resolve().parents[3] / "models"
IMAGES = [MODELS / "samples" / name for name in ("01_crescent.png", "04_heart.png")]
SEEDS, SAMPLES, MANY = range(4), 16, 200


def run_maps(**settings: Any) -> Floats:
    """The coarse maps (N, h, w) of Smooth Grad-CAM++."""
    explainer = onnxcam.Explainer(
        MODELS / "shapes.onnx", device="cpu", cache=False, chunk=32, **settings
    )
    return np.asarray(explainer(IMAGES).layer_maps, np.float64)


@pytest.fixture(scope="module")
def reference() -> Floats:
    return run_maps(samples=MANY, seed=1000)


def mean_error(generator: str, reference: Floats) -> float:
    """The mean over seeds and images of the relative L2 error of a few samples against many."""
    errors = []
    for seed in SEEDS:
        maps = run_maps(samples=SAMPLES, seed=seed, generator=generator)
        errors += [
            np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(maps, reference, strict=True)
        ]
    return float(np.mean(errors))


def test_tile_is_as_good_as_independent_noise(
    reference: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single field for all samples is not, so that the errors tell."""
    independent, of_tile = (mean_error(name, reference) for name in ("normal", "tile"))
    draw = tile.draw_symmetry

    def draw_first(seed: int, number: int, channels: int, *, is_square: bool) -> Symmetry:
        return draw(seed, 0 * number, channels, is_square=is_square)

    monkeypatch.setattr(tile, "draw_symmetry", draw_first)
    assert of_tile < 1.25 * independent
    assert mean_error("tile", reference) > 2 * independent
