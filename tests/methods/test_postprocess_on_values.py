"""Resizing and fusing maps computes the same on arrays and, written into a graph, in ONNX Runtime."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxcam.errors import ModelError
from onnxcam.graph.opset import NEWEST
from onnxcam.methods.postprocess import (
    are_empty,
    divide_by_max,
    fuse_maps,
    interpolate_axis,
    resize_bilinear,
)
from tests.methods.support.written import float32, run_written

DRAW = np.random.default_rng(0)
COARSE, FINE = DRAW.normal(size=(2, 3, 5)), DRAW.normal(size=(2, 8, 4))
COARSE[1] = -np.abs(COARSE[1])  # a map without evidence
MAPS = {"coarse": COARSE, "fine": FINE}
FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "interpolate": lambda coarse, fine: interpolate_axis(coarse, 1, 7) * np.max(fine),
    "enlarge": lambda coarse, fine: resize_bilinear(coarse, 8, 4) - fine,
    "shrink": lambda coarse, fine: coarse - resize_bilinear(fine, 3, 5),
    "divide": lambda coarse, fine: resize_bilinear(divide_by_max(coarse), 8, 4) + fine,
    "max": lambda coarse, fine: fuse_maps([coarse, fine], "max"),
    "mean": lambda coarse, fine: fuse_maps([coarse, fine], "mean"),
    "empty": lambda coarse, fine: are_empty(coarse) & ~are_empty(fine),
    "empty signed": lambda coarse, fine: are_empty(coarse * 0.0, signed=True),
}


@pytest.mark.parametrize("opset", [9, 13, NEWEST])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_maps_on_values_equal_maps_on_arrays(name: str, opset: int) -> None:
    expected = FUNCTIONS[name](COARSE, FINE)
    shapes = {key: ("N", *maps.shape[1:]) for key, maps in MAPS.items()}
    doubles = run_written(FUNCTIONS[name], MAPS, shapes=shapes, opset=opset)
    np.testing.assert_allclose(doubles, expected, rtol=1e-12, atol=1e-12)
    floats = run_written(FUNCTIONS[name], float32(MAPS), opset=opset)
    np.testing.assert_allclose(floats, expected, rtol=1e-5, atol=1e-5)
    assert expected.any()


@pytest.mark.parametrize(
    "resize",
    [
        functools.partial(resize_bilinear, height=8, width=8),
        lambda maps: fuse_maps([maps, maps], "max"),
    ],
)
def test_resizing_maps_of_free_size_is_model_error(resize: Callable[[Any], Any]) -> None:
    with pytest.raises(ModelError, match=r"axis 1 of Value.* is not; export the model for images"):
        run_written(resize, {"maps": COARSE}, shapes={"maps": (2, "h", 5)})
