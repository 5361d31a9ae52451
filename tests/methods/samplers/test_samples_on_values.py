"""Samplers draw the same samples on arrays and, written into a graph, in ONNX Runtime."""

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from onnxcam.arrays import Images
from onnxcam.errors import SettingError
from onnxcam.methods import METHODS
from onnxcam.methods.method import positional
from onnxcam.specs import Layer
from tests.methods.support.written_samples import (
    REPORTED,
    image_layer,
    on_arrays,
    on_values,
    write_graph,
)

FILE = "0.25"  # a gray image
CASES: list[tuple[str, dict[str, Any]]] = [
    *(
        ("gaussian", {"samples": 6, "generator": "tile", "seed": 3, **settings})
        for settings in ({}, {"noise": 0.4}, {"sigma": 0.7})
    ),
    ("path", {"steps": 5}),
    *(
        ("path", {"steps": 5, "baseline": baseline})
        for baseline in ("black", "mean", "noise", FILE, 0.5, np.array([0.1, 0.2, 0.3]))
    ),
    ("windows", {"window": 3, "stride": 2}),
    ("windows", {"window": 0.5, "baseline": "mean"}),
    ("masks", {"masks": 9, "grid": 3}),
    ("masks", {"masks": 9, "grid": 5, "probability": 0.3, "baseline": "black"}),
    ("positions", {}),
    ("positions", {"kernel": "cell"}),
    ("reference", {}),
    ("reference", {"baseline": "mean"}),
    ("path", {"steps": 5, "baseline": "blur"}),
    ("blur-path", {"steps": 5, "max_sigma": 4.0}),
    ("blur-path", {"steps": 9, "max_sigma": 0.5}),
    *(
        ("random-path", {"samples": 5, "generator": "tile", "seed": 1, **settings})
        for settings in (
            {},
            {"noise": 0.0, "baseline": "black"},
            {"baseline": "mean"},
            {"baseline": "blur", "noise": 0.3},
            {"baseline": np.arange(3.0).reshape(3, 1, 1, 1)},
        )
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
    for key, array in computed.items():
        largest = max(1.0, float(np.abs(expected[key]).max()))
        np.testing.assert_allclose(array, expected[key], rtol=0, atol=2e-6 * largest, err_msg=key)


@pytest.mark.parametrize("noise", [0.05, 0.15, 0.4])
@pytest.mark.parametrize("kind", ["integers", "floats"])
def test_noise_on_values_has_the_bits_of_noise_on_arrays(kind: str, noise: float) -> None:
    """Of all ranges: images of integers are rounded after noise was added."""
    largest = np.arange(1, 256, dtype=np.float32).reshape(-1, 1, 1, 1)
    draw = np.random.default_rng(0)
    images = draw.random((255, 3, 2, 2), np.float32) * largest - draw.normal(size=largest.shape)
    images = images.astype(np.float32)
    if kind == "integers":
        images = np.zeros((255, 3, 2, 2), np.float32)
        images[:, 0, 0, :1] = largest[:, 0, 0]
    settings = {"samples": 4, "generator": "tile", "noise": noise}
    layer = image_layer(images, 1, free=True)
    dtype = np.uint8 if kind == "integers" else np.float32
    expected = on_arrays("gaussian", images.astype(dtype), layer, settings)
    computed = on_values("gaussian", images, layer, settings, free=True)
    np.testing.assert_array_equal(computed["offsets"], expected["offsets"])
    np.testing.assert_array_equal(computed["scales"], expected["scales"].astype(np.float32))


@pytest.mark.parametrize("baseline", [0.0, 0.3, "black", np.arange(3.0).reshape(3, 1, 1, 1)])
def test_random_path_on_values_has_the_bits_of_that_on_arrays(baseline: Any) -> None:
    images = random_images(2, 1)
    settings = {"samples": 5, "generator": "tile", "baseline": baseline}
    layer = image_layer(images, 1, free=True)
    expected = on_arrays("random-path", images, layer, settings)
    computed = on_values("random-path", images, layer, settings, free=True)
    for name in ("offsets", "step"):
        np.testing.assert_array_equal(computed[name], expected[name], err_msg=name)


@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_samples_in_a_graph_are_computed_in_float32(name: str, settings: dict[str, Any]) -> None:
    """Browsers' graphics processors have no float64."""
    images = random_images(1, 1)
    graph = write_graph(name, images, image_layer(images, 1), settings)
    tensors = [*graph.tensors().values()]
    assert tensors
    assert np.dtype(np.float64) not in {tensor.dtype for tensor in tensors}


@pytest.mark.parametrize("axis", [1, 2])
def test_positions_on_values_keep_tokens_that_are_no_cells(axis: int) -> None:
    tokens = np.random.default_rng(0).normal(size=(2, 9, 4)).astype(np.float32)
    values = np.ascontiguousarray(np.moveaxis(tokens, 2, axis))
    layer = Layer(
        "tokens",
        "Add",
        (None, *values.shape[1:]),
        axis,
        is_bottleneck=True,
        cells=(2, 3),
        tokens_before=1,
        tokens_after=2,
    )
    expected = on_arrays("positions", values, layer, {})
    computed = on_values("positions", values, layer, {}, free=True)
    np.testing.assert_array_equal(computed["offsets"], expected["offsets"])
    kept = np.take(computed["offsets"], [0, 7, 8], axis=4 - axis)
    assert not kept.any()


@pytest.mark.parametrize("name", ["gaussian", "random-path"])
def test_independent_noise_in_a_graph_is_refused(name: str) -> None:
    images = random_images(1, 1)
    with pytest.raises(SettingError, match="generator='normal': independent noise of all samples"):
        on_values(name, images, image_layer(images, 1), {})


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_formula_takes_only_what_a_graph_computes(name: str) -> None:
    """Scores of samples are for reports, which no graph has."""
    formulas = [row.formula for row in METHODS.values() if row.sampler.name == name]
    assert formulas
    assert not {parameter for formula in formulas for parameter in positional(formula)} & REPORTED


def test_compact_tables_make_small_files() -> None:
    """Bytes of what a graph stores for the samples of an image of 224 x 224 pixels."""
    image = np.zeros((1, 3, 224, 224), np.float32)
    sizes = {
        name: len(
            gs.export_onnx(
                write_graph(name, image, image_layer(image, 1), settings)
            ).SerializeToString()
        )
        for name, settings in (
            ("gaussian", {"generator": "tile"}),
            ("masks", {}),
            ("windows", {}),
            ("blur-path", {}),
            ("path", {"baseline": "blur"}),
        )
    }
    limits = {"gaussian": 250, "masks": 250, "windows": 60, "blur-path": 20, "path": 20}
    assert {name: size // 1000 for name, size in sizes.items() if size > 1000 * limits[name]} == {}
