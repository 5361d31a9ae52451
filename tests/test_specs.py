"""A layer's values get their channels first on arrays and, written into a graph, in ONNX Runtime."""

from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Shape
from onnxcam.errors import ModelError
from onnxcam.specs import Layer
from tests.methods.support.written import run_written

LAYERS = {
    "NCHW": Layer("y", "Relu", ("N", 4, "h", 3), 1, is_bottleneck=True),
    "NHWC": Layer("y", "Relu", ("N", "h", 3, 4), 3, is_bottleneck=True),
    "NTC": Layer("y", "Add", ("N", 7, 4), 2, is_bottleneck=True, cells=(2, 3), tokens_before=1),
    "NCT": Layer("y", "Add", ("N", 4, 8), 1, is_bottleneck=True, cells=(2, None), tokens_after=2),
    "cells only": Layer("y", "Add", ("N", 6, 4), 2, is_bottleneck=True, cells=(None, None)),
    "both ends": Layer(
        "y", "Add", ("N", "T", 4), 2, is_bottleneck=True, cells=(2, 3), tokens_before=2, tokens_after=1
    ),
}  # fmt: skip
ASPECT_RATIO = 2 / 3


def values_of(layer: Layer) -> Any:
    sizes = {"N": 2, "h": 2, "T": 9}
    shape = [dim if isinstance(dim, int) else sizes[str(dim)] for dim in layer.shape]
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize("name", LAYERS)
def test_channels_first_on_values_equals_that_on_arrays(name: str) -> None:
    layer = LAYERS[name]
    values = values_of(layer)
    expected = layer.channels_first(values, ASPECT_RATIO)
    assert expected.shape == (2, 4, 2, 3)
    written = run_written(
        lambda value: layer.channels_first(value, ASPECT_RATIO),
        {"y": values},
        shapes={"y": layer.shape},
    )
    np.testing.assert_array_equal(written, expected)


def test_channels_first_gives_float64_or_the_dtype_asked_for() -> None:
    layer = LAYERS["NTC"]
    values = values_of(layer).astype(np.float32)
    assert layer.channels_first(values, ASPECT_RATIO).dtype == np.float64
    assert run_written(lambda y: layer.channels_first(y, 1.0), {"y": values}).dtype == np.float64
    assert layer.channels_first(values, ASPECT_RATIO, np.float32).dtype == np.float32
    assert (
        run_written(lambda y: layer.channels_first(y, 1.0, y.dtype), {"y": values}).dtype
        == np.float32
    )


def test_free_grid_of_values_is_model_error() -> None:
    shape: Shape = ("N", "T", 4)
    layer = Layer("y", "Add", shape, 2, is_bottleneck=True, cells=(2, None))
    with pytest.raises(ModelError, match="the grid 2 x None of the tokens is not fixed"):
        run_written(
            lambda y: layer.channels_first(y, 1.0), {"y": np.zeros((1, 6, 4))}, shapes={"y": shape}
        )
