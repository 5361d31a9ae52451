"""The activations of a layer, the scores and the gradient there, for many images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxcam.errors import ImageError, OnnxcamError, RunError, SettingError
from onnxcam.explain.activations import largest_layer, open_activations, read_activations
from onnxcam.explain.explainer import Explainer
from onnxcam.explain.pipeline import BLOCK
from onnxcam.specs import Layer
from tests.support.nets import (
    ANY_SIZE,
    DEEP,
    FIXED,
    MIXING,
    NHWC,
    POOLED,
    SKIP,
    Net,
    random_images,
)

COUNT = BLOCK + 3


def opened(net: Net, layer: str = "features", **arguments: Any) -> Explainer:
    arguments = {"device": "cpu", "preprocess": "unit", "cache": False, **arguments}
    return open_activations(net.content(), layer, **arguments)


def channels_first(net: Net, images: Any) -> Any:
    return np.moveaxis(images, 3, 1) if net is NHWC else images


@pytest.mark.parametrize(
    "net",
    [POOLED, DEEP, NHWC, FIXED, ANY_SIZE],
    ids=["pooled", "deep", "nhwc", "fixed", "any-size"],
)
def test_activations_are_those_of_numpy_twin(net: Net) -> None:
    images = random_images(COUNT, (8, 8, 3) if net is NHWC else (3, 8, 8))
    expected = net.features(channels_first(net, images))
    rows = [*read_activations(opened(net), images)]
    assert len(rows) == COUNT
    assert rows[0].activation.dtype == np.float32
    np.testing.assert_allclose([row.activation for row in rows], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        [row.scores for row in rows], net.logits(expected), rtol=1e-4, atol=1e-5
    )
    assert {row.gradient is None and row.target is None for row in rows} == {True}


@pytest.mark.parametrize(
    "net", [POOLED, DEEP, NHWC, FIXED], ids=["pooled", "deep", "nhwc", "fixed"]
)
@pytest.mark.parametrize("target", [3, "1-4", "top2"])
def test_gradients_are_those_of_numpy_twin(net: Net, target: Any) -> None:
    images = random_images(COUNT, (8, 8, 3) if net is NHWC else (3, 8, 8))
    features = net.features(channels_first(net, images))
    rows = [*read_activations(opened(net, gradient=True), images, target)]
    weights = np.array([row.target.weights for row in rows if row.target])
    second = np.argsort(net.logits(features), axis=1)[:, -2]
    expected = {
        3: np.eye(5)[[3]],
        "1-4": np.eye(5)[[1]] - np.eye(5)[[4]],
        "top2": np.eye(5)[second],
    }
    np.testing.assert_array_equal(weights, np.broadcast_to(expected[target], (COUNT, 5)))
    slope = net.slope(features, weights)
    gradients: Any = [row.gradient for row in rows]
    np.testing.assert_allclose(gradients, slope, rtol=1e-4, atol=1e-5)


def test_layer_beside_others_has_its_own_activations() -> None:
    images = random_images(2)
    rows = [*read_activations(opened(SKIP), images)]
    np.testing.assert_allclose(
        [row.activation for row in rows], SKIP.features(images), rtol=1e-4, atol=1e-5
    )


def test_images_of_a_model_that_mixes_them_run_alone() -> None:
    images = random_images(4)
    rows = [*read_activations(opened(MIXING), images)]
    np.testing.assert_allclose(
        [row.activation for row in rows], MIXING.features(images), rtol=1e-4, atol=1e-5
    )


def test_images_may_differ_in_size_and_kind(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    sources = [
        random_images(2, (3, 8, 8)),
        random_images(1, (3, 6, 10)),
        random_images(1, (3, 8, 8)),
    ]
    rows = [*read_activations(opened(ANY_SIZE), sources)]
    assert [row.activation.shape[1:] for row in rows] == [(4, 4), (4, 4), (3, 5), (4, 4)]
    path = tmp_path / "wide.png"
    files = [*read_activations(opened(DEEP), [path, Image.fromarray(pixels), path.read_bytes()])]
    assert [row.image.name for row in files] == ["wide", "image-1", "image-2"]
    np.testing.assert_array_equal(files[0].activation, files[1].activation)


def test_images_are_read_while_earlier_ones_run() -> None:
    taken = []

    def sources() -> Any:
        for number in range(500):
            taken.append(number)
            yield random_images(1)[0]

    rows = read_activations(opened(DEEP), sources())
    next(rows)
    assert len(taken) < 200


def test_bad_image_is_reported_and_left_out(tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    errors: list[OnnxcamError] = []
    sources = [random_images(1)[0], bad, random_images(1)[0]]
    rows = [
        *read_activations(opened(DEEP), sources, on_error=lambda _, error: errors.append(error))
    ]
    assert len(rows) == 2
    assert [type(error) for error in errors] == [ImageError]
    with pytest.raises(ImageError, match="bad"):
        [*read_activations(opened(DEEP), sources)]


def test_progress_counts_images() -> None:
    counts: list[int] = []
    [*read_activations(opened(DEEP), random_images(COUNT), progress=counts.append)]
    assert sum(counts) == COUNT


def test_several_layers_are_refused() -> None:
    with pytest.raises(SettingError, match=r"2 layers \(.*\) cannot be read together; name one"):
        opened(DEEP, "early,features")


def test_largest_layer_has_the_most_cells() -> None:
    sizes = {"small": 2, "large": 8, "same": 8, "middle": 4}
    layers = [Layer(name, "Conv", (1, 3, n, n), 1, False) for name, n in sizes.items()]
    assert largest_layer(layers).name == "same"
    free = Layer("free", "Conv", (1, 3, "h", "w"), 1, False)
    assert largest_layer([*layers, free]).name == "free"


def test_infinite_activations_are_refused() -> None:
    images = np.sign(random_images(1)) * np.float32(3e38)
    with pytest.raises(RunError, match="not finite"):
        [*read_activations(opened(DEEP), images)]
