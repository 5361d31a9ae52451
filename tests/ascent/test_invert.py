"""Images with the activations of a given one: where they are known, and at the layers of the bundled model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import onnxcam
from onnxcam.ascent.descent import Step
from onnxcam.bundled import bundled_model, sample_images
from onnxcam.errors import ImageError, RunError, UnknownNameError
from onnxcam.explain.result_files import read_manifest
from onnxcam.model.load import load
from onnxcam.model.model import Model

DRAW = np.random.Generator(np.random.SFC64(9))
IMAGE = str(sample_images()[5])
FREE: dict[str, Any] = {"norm": 0, "variation": 0, "preprocess": "unit", "device": "cpu"}


def make_model(text: str, **weights: Any) -> Model:
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> net {text}')
    for name, array in weights.items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return load(proto)


def net(batch: str = "N", dtype: str = "float") -> Model:
    """A convolution that can be inverted, and a mean of it that cannot."""
    text = (
        f"({dtype}[{batch}, 3, 8, 8] x) => ({dtype}[{batch}, 4] y) "
        "{ c = Conv<pads=[1, 1, 1, 1]>(x, w) r = Relu(c) "
        "p = AveragePool<kernel_shape=[4, 4], strides=[4, 4]>(r) g = GlobalAveragePool(p) y = Flatten(g) }"
    )
    kernel = 0.1 * DRAW.standard_normal((4, 3, 3, 3))
    kernel[0, 0, 1, 1] = kernel[1, 1, 1, 1] = kernel[2, 2, 1, 1] = 2.0
    return make_model(text, w=kernel.astype(np.float16 if dtype == "float16" else np.float32))


@pytest.mark.parametrize("batch", ["N", "1", "2"])
def test_image_of_invertible_layer_is_restored(batch: str) -> None:
    image = DRAW.uniform(0, 1, (3, 8, 8)).astype(np.float32)
    made = onnxcam.invert(net(batch), image, "c", steps=300, slowing=30, rate=0.1, **FREE)
    assert not any("influence" in notice for notice in made.notices)
    assert made.errors[0] < 0.01
    np.testing.assert_allclose(made.tensor[0], image, atol=0.03)
    np.testing.assert_allclose(made.original, 2 * image - 1, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 8, 10), (3, 6, 6)])
def test_array_of_any_size_is_inverted(shape: tuple[int, ...]) -> None:
    text = (
        "(float[N, 3, H, W] x) => (float[N, 4] y) { c = Conv<pads=[1, 1, 1, 1]>(x, w) r = Relu(c) "
        "y = ReduceMean<axes=[2, 3], keepdims=0>(r) }"
    )
    model = make_model(text, w=DRAW.standard_normal((4, 3, 3, 3)).astype(np.float32))
    image = DRAW.uniform(0, 1, shape).astype(np.float32)
    made = onnxcam.invert(model, image, "c", steps=60, rate=0.1, **FREE)
    assert made.tensor.shape == (1, *shape)
    assert made.errors[0] < 0.3 * np.sqrt(made.history[0, 0])


def test_errors_are_relative_distances_of_activations() -> None:
    image, model = DRAW.uniform(0, 1, (3, 8, 8)).astype(np.float32), net()
    made = onnxcam.invert(model, image, ["c", "p", "y"], steps=5, **FREE)
    assert made.layers == ("c", "p", "y")
    session = _session(model, ["c", "p", "y"])
    for layer, tensor, error in zip(made.layers, made.tensor, made.errors, strict=True):
        known, actual = (session([pixels])[layer].astype(float) for pixels in (image, tensor))
        expected = np.linalg.norm(actual - known) / np.linalg.norm(known)
        assert error == pytest.approx(expected, rel=1e-4)
    assert np.all(np.sqrt(made.history[:, 0]) > made.errors)


def _session(model: Model, names: list[str]) -> Any:
    """A function from images to the tensors of a model by name."""
    copy = model.copy()
    tensors = copy.graph.tensors()
    copy.graph.outputs = [tensors[name] for name in names]
    content, _ = copy.content_and_weights()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: dict(
        zip(names, session.run(names, {"x": np.array(images, np.float32)}), strict=True)
    )


def test_error_of_shapes_falls_with_earlier_layers() -> None:
    layers = ["sub", "relu", "relu_2", "relu_4", "relu_8"]
    made = onnxcam.invert(bundled_model(), IMAGE, layers, steps=100, device="cpu")
    assert list(made.errors) == sorted(made.errors)
    assert made.errors[0] < 0.1
    assert np.abs(made.x[0] - made.original).mean() < 0.1 < np.abs(made.x[4] - made.original).mean()


def test_layers_by_default_are_features_of_which_later_ones_know_less() -> None:
    made = onnxcam.invert(bundled_model(), IMAGE, steps=30, device="cpu")
    assert made.layers == ("relu", "relu_2", "relu_4", "relu_6", "relu_8")  # "sub" is the image
    differences = np.abs(made.x - made.original).mean(axis=(1, 2, 3))[
        :4
    ]  # the last two are about equal
    assert list(differences) == sorted(differences)


def test_same_seed_gives_the_same_image_bit_for_bit() -> None:
    settings: dict[str, Any] = {"steps": 4, "device": "cpu"}
    first, second, other = (
        onnxcam.invert(bundled_model(), IMAGE, "relu", seed=seed, **settings) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.tensor, second.tensor)
    assert not np.array_equal(first.tensor, other.tensor)


def test_interrupted_run_goes_on_to_the_same_result(tmp_path: Path) -> None:
    arguments = (bundled_model(), IMAGE, ["relu", "relu_4"])

    def interrupt(layer: str, step: Step) -> None:
        if (layer, step.number) == ("relu_4", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        onnxcam.invert(*arguments, steps=6, device="cpu", checkpoints=tmp_path, progress=interrupt)
    steps: list[tuple[str, int]] = []
    resumed = onnxcam.invert(
        *arguments,
        steps=6,
        device="cpu",
        checkpoints=tmp_path,
        progress=lambda layer, step: steps.append((layer, step.number)),
    )
    assert steps == [("relu_4", number) for number in (4, 5, 6)]
    complete = onnxcam.invert(*arguments, steps=6, device="cpu")
    np.testing.assert_array_equal(resumed.tensor, complete.tensor)
    other = onnxcam.invert(
        bundled_model(),
        str(sample_images()[0]),
        "relu",
        steps=6,
        device="cpu",
        checkpoints=tmp_path,
    )
    assert not np.array_equal(other.tensor[0], complete.tensor[0])


def test_files_hold_the_tensors_and_errors(tmp_path: Path) -> None:
    made = onnxcam.invert(bundled_model(), IMAGE, ["relu", "relu_4"], steps=2, device="cpu")
    path = made.save(tmp_path)
    assert path.name == f"{Path(IMAGE).stem}.shapes.invert.png"
    with np.load(path.with_suffix(".npz")) as stored:
        np.testing.assert_array_equal(stored["tensor"], made.tensor)
        np.testing.assert_array_equal(stored["errors"], made.errors)
    manifest = read_manifest(path.with_suffix(".json"))
    assert manifest["image"]["source"] == IMAGE
    assert [row["layer"] for row in manifest["invert"]] == ["relu", "relu_4"]


def test_half_precision_is_compared_in_float32() -> None:
    image = DRAW.uniform(0, 1, (3, 8, 8)).astype(np.float16)
    made = onnxcam.invert(net(dtype="float16"), image, "c", steps=60, rate=0.1, **FREE)
    assert made.errors[0] < 0.2 * np.sqrt(made.history[0, 0])
    assert made.tensor.dtype == np.float16


def test_layer_of_zeros_is_left_out_of_the_default_only() -> None:
    text = (
        "(float[N, 3, 8, 8] x) => (float[N, 4] y) { c = Conv(x, w) a = Relu(c) d = Conv(a, v, b) "
        "r = Relu(d) y = ReduceMean<axes=[2, 3], keepdims=0>(r) }"
    )
    kernels = {"w": (4, 3, 3, 3), "v": (4, 4, 1, 1)}
    weights = {n: DRAW.standard_normal(s).astype(np.float32) for n, s in kernels.items()}
    model = make_model(text, **weights, b=np.full(4, -1000, np.float32))
    image = DRAW.uniform(0, 1, (3, 8, 8)).astype(np.float32)
    made = onnxcam.invert(model, image, steps=2, **FREE)
    assert made.layers == ("a",)
    (notice,) = (notice for notice in made.notices if "left out" in notice)
    assert "at r are all 0" in notice
    with pytest.raises(RunError, match="at r are all 0"):
        onnxcam.invert(model, image, ["a", "r"], steps=2, **FREE)


def test_tokens_and_batch_one_are_inverted() -> None:
    text = (
        "(float[1, 3, 8, 8] x) => (float[1, 5] y) <int64[3] shape = {1, 5, -1}> "
        "{ c = Conv<strides=[2, 2]>(x, w) s = Reshape(c, shape) t = Transpose<perm=[0, 2, 1]>(s) "
        "u = Tanh(t) y = ReduceMean<axes=[1], keepdims=0>(u) }"
    )
    model = make_model(text, w=DRAW.standard_normal((5, 3, 2, 2)).astype(np.float32))
    made = onnxcam.invert(model, DRAW.uniform(0, 1, (3, 8, 8)).astype(np.float32), steps=3, **FREE)
    assert set(made.layers) <= {"c", "t", "u"}
    assert np.all(made.errors < np.sqrt(made.history[:, 0]))


@pytest.mark.parametrize(
    ("image", "layer", "error", "message"),
    [
        (IMAGE, "nothing", UnknownNameError, "nothing"),
        ([IMAGE, IMAGE], "relu", ImageError, "2 images to invert"),
        ("missing.jpg", "relu", ImageError, "missing"),
    ],
)
def test_impossible_request_is_refused(
    image: Any, layer: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        onnxcam.invert(bundled_model(), image, layer, steps=1, device="cpu")


def test_layer_without_activations_is_refused() -> None:
    model = net()
    with pytest.raises(RunError, match="are all 0"):
        onnxcam.invert(model, np.zeros((3, 8, 8), np.float32), "c", steps=1, **FREE)
