"""Samplers draw the same samples on arrays and, written into a graph, in ONNX Runtime."""

from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Images
from tests.methods.support.written_samples import image_layer, on_arrays, on_values

CASES: list[tuple[str, dict[str, Any]]] = [
    *(
        ("gaussian", {"samples": 6, "generator": "tile", "seed": 3, **settings})
        for settings in ({}, {"noise": 0.4}, {"sigma": 0.7})
    ),
    ("path", {"steps": 5}),
    *(
        ("path", {"steps": 5, "baseline": baseline})
        for baseline in ("black", "mean", "noise", 0.5, np.array([0.1, 0.2, 0.3]))
    ),
]


def random_images(count: int, axis: int) -> Images:
    """Images (N, 3, 6, 8) or (N, 6, 8, 3)."""
    images = np.random.default_rng(count).normal(size=(count, 3, 6, 8)).astype(np.float32)
    return np.ascontiguousarray(np.moveaxis(images, 1, axis))


@pytest.mark.parametrize("axis", [1, 3])
@pytest.mark.parametrize(("count", "free"), [(1, False), (2, True)])
@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_samples_on_values_equal_samples_on_arrays(
    name: str, settings: dict[str, Any], count: int, free: bool, axis: int
) -> None:
    images = random_images(count, axis)
    layer = image_layer(images, axis, free=free)
    expected = on_arrays(name, images, layer, settings)
    computed = on_values(name, images, layer, settings, free=free)
    for key, array in expected.items():
        largest = max(1.0, float(np.abs(array).max()))
        np.testing.assert_allclose(computed[key], array, rtol=0, atol=2e-6 * largest, err_msg=key)
