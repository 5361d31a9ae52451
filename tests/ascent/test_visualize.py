"""Images that raise a score: where the best image is known, and on the bundled models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxcam
from onnxcam.ascent.descent import Step
from onnxcam.ascent.result import file_stem
from onnxcam.bundled import bundled_detector, bundled_model, sample_images
from onnxcam.errors import (
    BlockedError,
    OutputError,
    SettingError,
    TargetError,
    UnknownNameError,
)
from onnxcam.explain.result_files import read_manifest
from onnxcam.model.load import load
from onnxcam.model.model import Model

DRAW = np.random.Generator(np.random.SFC64(8))
WEIGHTS = DRAW.standard_normal((3, 2, 3, 3)).astype(np.float32)
PLAIN: dict[str, Any] = {
    "preprocess": "unit",
    "basis": "pixels",
    "decay": 0,
    "variation": 0,
    "jitter": 0,
    "zoom": 0,
    "device": "cpu",
}


def make_model(text: str, weights: Any = None, opset: int = 17) -> Model:
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": {opset}]> net {text}')
    if weights is not None:
        proto.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    return load(proto)


def linear_model(batch: str = "N") -> Model:
    weights = DRAW.standard_normal((48, 5)).astype(np.float32)
    text = f"(float[{batch}, 3, 4, 4] x) => (float[{batch}, 5] y) {{ f = Flatten(x) y = MatMul(f, w) }}"
    return make_model(text, weights)


def weights_of(model: Model) -> Any:
    return model.graph.tensors()["w"].values


@pytest.mark.parametrize("batch", ["N", "1", "3"])
def test_best_image_of_linear_model_is_the_sign_of_its_weights(batch: str) -> None:
    model = linear_model(batch)
    made = onnxcam.visualize(model, [1, "3-0", "not 2"], count=2, steps=80, rate=0.05, **PLAIN)
    weights = weights_of(model).reshape(3, 4, 4, 5)
    expected = [weights[..., 1], weights[..., 3] - weights[..., 0], -weights[..., 2]]
    np.testing.assert_array_equal(made.x, np.sign(expected).repeat(2, axis=0))
    np.testing.assert_array_equal(made.tensor, (made.x + 1) / 2)
    best = [np.maximum(weight, 0).sum() for weight in expected]
    np.testing.assert_allclose(made.scores, np.repeat(best, 2), rtol=1e-5)
    assert made.seeds == (0, 1) * 3
    assert made.specs[2] == "3-0"


TURN, BACK = "Transpose<perm=[0, 3, 1, 2]>", "Transpose<perm=[0, 2, 3, 1]>"
BODIES = {
    "NCHW": ("N, 1, 6, 6", "f = Conv<pads=[1, 1, 1, 1]>(x, w) r = Relu(f)", "2, 3"),
    "NHWC": (
        "N, 6, 6, 1",
        f"t = {TURN}(x) c = Conv<pads=[1, 1, 1, 1]>(t, w) f = {BACK}(c) r = Relu(f)",
        "1, 2",
    ),
}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_one_neuron_changes_only_what_it_sees(layout: str) -> None:
    shape, body, axes = BODIES[layout]
    text = f"{{ {body} y = ReduceMean<axes=[{axes}], keepdims=0>(r) }}"
    made = onnxcam.visualize(
        make_model(f"(float[{shape}] x) => (float[N, 3] y) {text}", WEIGHTS[:, :1].copy()),
        layer="f",
        channels=[2, 0],
        region="2:3,3:4",
        count=1,
        steps=60,
        rate=0.05,
        noise=0,
        **PLAIN,
    )
    for x, kernel in zip(made.x[:, 0], WEIGHTS[[0, 2], 0], strict=True):
        expected = np.zeros((6, 6))
        expected[1:4, 2:5] = np.sign(kernel)
        np.testing.assert_array_equal(x, expected)
    assert made.names == ("f, feature map 0, cells 2:3,3:4", "f, feature map 2, cells 2:3,3:4")
    pixels = (made.x[0, 0] + 1) / 2
    assert made.scores[0] == pytest.approx(np.sum(WEIGHTS[0, 0] * pixels[1:4, 2:5]), rel=1e-5)


def test_tokens_are_cells_of_a_layer() -> None:
    body = (
        "c = Conv<strides=[2, 2], kernel_shape=[2, 2]>(x, w) s = Reshape(c, shape) "
        "t = Transpose<perm=[0, 2, 1]>(s) u = Tanh(t) y = ReduceMean<axes=[1], keepdims=0>(u)"
    )
    text = f"(float[1, 1, 4, 6] x) => (float[1, 3] y) <int64[3] shape = {{1, 3, -1}}> {{ {body} }}"
    kernel = WEIGHTS[:, :1, :2, :2].copy()
    made = onnxcam.visualize(
        make_model(text, kernel),
        layer="t",
        channels="1",
        region="1:2,0:1",
        count=1,
        steps=60,
        rate=0.05,
        noise=0,
        **PLAIN,
    )
    expected = np.zeros((4, 6))
    expected[2:, :2] = np.sign(kernel[1, 0])
    np.testing.assert_array_equal(made.x[0, 0], expected)


def test_decay_sets_the_deviation_of_the_image() -> None:
    made = onnxcam.visualize(
        linear_model(), 0, count=1, steps=400, rate=0.005, **{**PLAIN, "decay": 2}
    )
    # at the maximum, 2 decay x / pixels is as long as the score's direction, 1 / sqrt(pixels)
    assert np.sqrt(np.mean(np.sum(np.square(made.x), axis=1))) == pytest.approx(0.25, rel=0.02)


def test_images_of_shapes_score_above_all_samples() -> None:
    classes = [0, 2, 5, 9]
    made = onnxcam.visualize(bundled_model(), classes, count=1, steps=48, device="cpu")
    explainer = onnxcam.Explainer(bundled_model(), "saliency", device="cpu")
    samples = [str(path) for path in sample_images()]
    for index, score in zip(classes, made.scores, strict=True):
        assert score > explainer(samples, index).scores.max()
    again = onnxcam.Explainer(bundled_model(), "saliency", device="cpu")(made.tensor, list(classes))
    np.testing.assert_allclose(again.scores, made.scores, rtol=1e-4)


def test_layers_of_detector_have_feature_maps() -> None:
    detector = onnxcam.load(bundled_detector())
    layer = next(layer for layer in onnxcam.layers(detector) if layer.automatic)
    made = onnxcam.visualize(
        detector, layer=layer.number, channels="0,1", count=1, steps=6, device="cpu"
    )
    assert made.names[0] == f"{layer.name}, feature map 0"
    assert np.all(made.scores > made.history[0])


def test_size_of_images_is_chosen_where_the_model_takes_any() -> None:
    text = (
        "(float[N, 3, H, W] x) => (float[N, 3] y) { c = Conv<pads=[1, 1, 1, 1]>(x, w) "
        "r = Relu(c) y = ReduceMean<axes=[2, 3], keepdims=0>(r) }"
    )
    model = make_model(text, DRAW.standard_normal((3, 3, 3, 3)).astype(np.float32))
    arguments: dict[str, Any] = {"count": 2, "steps": 5, "pixels": {"size": (10, 14)}, **PLAIN}
    class_image = onnxcam.visualize(model, 1, **arguments)
    neuron = onnxcam.visualize(model, layer="c", channels="1", region="9:10,13:14", **arguments)
    for made in (class_image, neuron):
        assert made.tensor.shape == (2, 3, 10, 14)
        assert np.all(made.scores > made.history[0])
    changed = np.abs(neuron.x - onnxcam.visualize(model, 1, **{**arguments, "steps": 1}).x) > 0.1
    assert not changed[..., :8, :12].any()
    assert changed[..., 8:, 12:].any()


def test_scores_with_more_axes_are_raised() -> None:
    weights = DRAW.standard_normal((5, 3, 4, 4)).astype(np.float32)
    model = make_model("(float[N, 3, 4, 4] x) => (float[N, 5, 1, 1] y) { y = Conv(x, w) }", weights)
    made = onnxcam.visualize(model, [4, 2], count=1, steps=60, rate=0.05, **PLAIN)
    np.testing.assert_array_equal(made.x, np.sign(weights[[4, 2]]))


@pytest.mark.parametrize("length", [3, 300])
def test_names_of_files_differ_and_are_short(length: int) -> None:
    first, second = (file_stem("model", "a;/" * length + end, "visualize") for end in "bc")
    assert first != second
    assert len(first) <= 60
    assert re.fullmatch(r"[\w.-]+", first)


def test_images_of_other_regions_have_other_names(tmp_path: Path) -> None:
    masks = np.zeros((2, 28, 28), bool)
    masks[[0, 1], 5, [6, 7]] = True
    regions = ["1:2,3:4", "1:2,3:5", (slice(1, 2), slice(3, 6)), *masks, None]
    settings: dict[str, Any] = {"channels": "3", "count": 1, "steps": 1, "device": "cpu"}
    for region in regions:
        made = onnxcam.visualize(bundled_model(), layer="relu_4", region=region, **settings)
        made.save(tmp_path)
    assert len([*tmp_path.glob("*.json")]) == len(regions)


def test_images_of_detector_raise_its_best_box() -> None:
    made = onnxcam.visualize(bundled_detector(), 1, count=1, steps=24, device="cpu")
    assert made.scores[0] > made.history[0, 0] + 1
    explainer = onnxcam.Explainer(bundled_detector(), "saliency", device="cpu")
    best = explainer(made.tensor, made.specs[0])
    assert best.scores[0] == pytest.approx(made.scores[0], rel=1e-3)


def test_same_seed_gives_the_same_image_bit_for_bit() -> None:
    settings: dict[str, Any] = {"count": 2, "steps": 8, "seed": 5, "device": "cpu"}
    first, second = (onnxcam.visualize(bundled_model(), 3, **settings) for _ in range(2))
    np.testing.assert_array_equal(first.tensor, second.tensor)
    np.testing.assert_array_equal(first.history, second.history)
    other = onnxcam.visualize(bundled_model(), 3, **{**settings, "seed": 6})
    assert not np.array_equal(first.tensor, other.tensor)
    np.testing.assert_allclose(first.x[1], other.x[0], atol=1e-2)  # seed 6; rounded as batches are


def test_interrupted_run_goes_on_to_the_same_result(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"count": 2, "blur": 0.5, "device": "cpu"}

    def interrupt(step: Step) -> None:
        if step.number == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        onnxcam.visualize(
            bundled_model(), 3, steps=12, checkpoints=tmp_path, progress=interrupt, **settings
        )
    steps: list[int] = []
    resumed = onnxcam.visualize(
        bundled_model(),
        3,
        steps=12,
        checkpoints=tmp_path,
        progress=lambda step: steps.append(step.number),
        **settings,
    )
    assert steps == [*range(6, 13)]
    complete = onnxcam.visualize(bundled_model(), 3, steps=12, **settings)
    np.testing.assert_array_equal(resumed.tensor, complete.tensor)
    np.testing.assert_array_equal(resumed.history, complete.history)
    longer = onnxcam.visualize(bundled_model(), 3, steps=14, checkpoints=tmp_path, **settings)
    np.testing.assert_array_equal(longer.history[:12], complete.history)


@pytest.mark.parametrize("changed", [{"rate": 0.05}, {"seed": 1}, {"preprocess": "tf"}])
def test_checkpoint_of_other_settings_is_not_continued(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    model = linear_model()
    settings: dict[str, Any] = {"count": 1, "steps": 4, "checkpoints": tmp_path, **PLAIN}
    onnxcam.visualize(model, 0, **settings)
    steps: list[int] = []
    anew = onnxcam.visualize(
        model, 0, progress=lambda step: steps.append(step.number), **{**settings, **changed}
    )
    assert steps == [1, 2, 3, 4]
    assert any("was of another run" in notice for notice in anew.notices)


def test_checkpoint_of_other_weights_is_not_continued(tmp_path: Path) -> None:
    model = linear_model()
    settings: dict[str, Any] = {"count": 1, "steps": 4, "checkpoints": tmp_path, **PLAIN}
    onnxcam.visualize(model, 0, **settings)
    model.graph.tensors()["w"].values = -weights_of(model)
    steps: list[int] = []
    onnxcam.visualize(model, 0, progress=lambda step: steps.append(step.number), **settings)
    assert steps == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["parameters", "", "header"])
def test_damaged_checkpoint_is_refused(tmp_path: Path, name: str) -> None:
    settings: dict[str, Any] = {"count": 1, "steps": 2, "checkpoints": tmp_path, **PLAIN}
    onnxcam.visualize(linear_model(), 0, **settings)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    if name == "":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif name == "header":  # another version of the format, in the table at its end
        at = content.rindex(b"PK\x01\x02") + 6
        path.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
    else:
        path.write_bytes(content.replace(b"{'descr'", b"{'descr(", 1))
    with pytest.raises(OutputError, match="not a checkpoint"):
        onnxcam.visualize(linear_model(), 0, **settings)


def test_checkpoint_of_more_steps_is_kept(tmp_path: Path) -> None:
    model = linear_model()
    settings: dict[str, Any] = {"count": 1, "checkpoints": tmp_path, **PLAIN}
    onnxcam.visualize(model, 0, steps=6, **settings)
    (path,) = tmp_path.iterdir()
    kept = path.read_bytes()
    shorter = onnxcam.visualize(model, 0, steps=3, **settings)
    assert len(shorter.history) == 3
    assert path.read_bytes() == kept


def test_file_that_is_no_checkpoint_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "model.class-0.visualize.checkpoint.npz"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="not a checkpoint"):
        onnxcam.visualize(linear_model(), 0, count=1, steps=2, checkpoints=tmp_path, **PLAIN)
    assert path.read_bytes() == b"mine"


def test_files_hold_the_tensor_and_what_was_done(tmp_path: Path) -> None:
    made = onnxcam.visualize(bundled_model(), ["star", 6], count=1, steps=3, device="cpu")
    path = made.save(tmp_path)
    assert path == tmp_path / "shapes.star+ring.visualize.png"
    assert {
        file.name.removeprefix("shapes.star+ring.visualize.") for file in tmp_path.iterdir()
    } == {*("png", "1.png", "2.png", "npz", "json")}
    with np.load(path.with_suffix(".npz")) as stored:
        np.testing.assert_array_equal(stored["tensor"], made.tensor)
        np.testing.assert_array_equal(stored["scores"], made.scores)
    manifest = read_manifest(path.with_suffix(".json"))
    assert [row["spec"] for row in manifest["visualize"]] == ["8", "6"]
    assert manifest["settings"]["steps"] == 3
    made.save(tmp_path)  # replaces its own files
    path.with_suffix(".json").unlink()
    with pytest.raises(OutputError, match="--force"):
        made.save(tmp_path)


def test_drawn_image_is_prepared_to_the_tensor(tmp_path: Path) -> None:
    made = onnxcam.visualize(bundled_model(), 3, count=1, steps=3, device="cpu")
    path = made.save(tmp_path).with_suffix(".1.png")
    explainer = onnxcam.Explainer(
        bundled_model(), "saliency", device="cpu", pixels={"fit": "squash"}
    )
    assert explainer(str(path), 3).scores[0] == pytest.approx(made.scores[0], abs=0.1)


def quantized_model(reader: str = "DequantizeLinear(x, scale, zero)") -> Model:
    text = (
        "(uint8[1, 3, 4, 4] x) => (float[1, 5] y) <float scale = {0.02}, uint8 zero = {128}> "
        f"{{ d = {reader} f = Flatten(d) y = MatMul(f, w) }}"
    )
    return make_model(text, DRAW.standard_normal((48, 5)).astype(np.float32))


def test_image_of_integers_is_rounded_at_the_end() -> None:
    model = quantized_model()
    made = onnxcam.visualize(
        model, 1, count=2, steps=80, rate=0.05, **{**PLAIN, "preprocess": "raw"}
    )
    weights = weights_of(model)[:, 1].reshape(3, 4, 4)
    np.testing.assert_array_equal(
        made.tensor, np.where(weights > 0, 255, 0)[None].repeat(2, axis=0)
    )
    assert made.tensor.dtype == np.uint8
    expected = np.sum(0.02 * weights * (np.where(weights > 0, 255, 0) - 128))
    np.testing.assert_allclose(made.scores, expected, rtol=1e-5)


def test_operators_on_integers_are_refused() -> None:
    model = make_model(
        "(uint8[1, 4, 4, 3] x) => (float[1, 48] y) <uint8 two = {2}> "
        "{ h = Div(x, two) c = Cast<to=1>(h) y = Flatten(c) }"
    )
    with pytest.raises(onnxcam.ModelError, match=r"integers, which Div .* so it has no gradient"):
        onnxcam.visualize(model, 0, count=1, steps=1)


def test_operator_without_gradient_is_refused_with_a_hint() -> None:
    text = (
        "(float[N, 3, 4, 4] x) => (float[N, 5] y) { r = Floor(x) f = Flatten(r) y = MatMul(f, w) }"
    )
    weights = DRAW.standard_normal((48, 5)).astype(np.float32)
    with pytest.raises(BlockedError, match=r"Floor .*choose a layer before it with --layer"):
        onnxcam.visualize(make_model(text, weights), 0, count=1, steps=1, **PLAIN)


def test_sign_passes_gradients_straight_through_with_a_notice() -> None:
    text = (
        "(float[N, 3, 4, 4] x) => (float[N, 5] y) <float[1] half = {0.5}> "
        "{ c = Sub(x, half) s = Sign(c) f = Flatten(s) y = MatMul(f, w) }"
    )
    weights = DRAW.standard_normal((48, 5)).astype(np.float32)
    made = onnxcam.visualize(make_model(text, weights), 1, count=1, steps=60, rate=0.05, **PLAIN)
    np.testing.assert_array_equal(made.x[0], np.sign(weights[:, 1]).reshape(3, 4, 4))
    assert any("derivative of Sign" in notice for notice in made.notices)


def test_images_that_influence_each_other_are_run_alone() -> None:
    text = (
        "(float[N, 3, 4, 4] x) => (float[N, 5] y) "
        "{ m = ReduceMean<axes=[0], keepdims=1>(x) p = Mul(x, m) f = Flatten(p) y = MatMul(f, w) }"
    )
    model = make_model(text, DRAW.standard_normal((48, 5)).astype(np.float32))
    made = onnxcam.visualize(model, 0, count=2, steps=5, **PLAIN)
    alone = onnxcam.visualize(model, 0, count=1, seed=1, steps=5, **PLAIN)
    np.testing.assert_allclose(made.x[1], alone.x[0], atol=1e-6)
    assert any("one by one" in notice for notice in made.notices)


def test_rectifier_that_is_off_is_turned_on() -> None:
    text = (
        "(float[N, 1, 6, 6] x) => (float[N, 3] y) <float[3] b = {-0.5, -0.5, -0.5}> "
        "{ f = Conv<pads=[1, 1, 1, 1]>(x, w, b) r = Relu(f) y = ReduceMean<axes=[2, 3], keepdims=0>(r) }"
    )
    kernels = WEIGHTS[:, :1] - WEIGHTS[:, :1].mean(axis=(2, 3), keepdims=True)
    made = onnxcam.visualize(
        make_model(text, kernels),
        layer="r",
        channels="1",
        region="2:3,3:4",
        count=1,
        steps=60,
        rate=0.05,
        noise=0,
        **PLAIN,
    )
    assert made.history[0, 0] == 0
    np.testing.assert_array_equal(made.x[0, 0, 1:4, 2:5], np.sign(kernels[1, 0]))
    assert made.notices == ()


def test_one_step_is_enough_to_see_a_gradient() -> None:
    made = onnxcam.visualize(linear_model(), 0, count=2, steps=1, **PLAIN)
    assert not [notice for notice in made.notices if "no gradient" in notice]


def test_same_target_by_two_names_is_one() -> None:
    made = onnxcam.visualize(linear_model(), [3, "3", 1], count=1, steps=1, **PLAIN)
    assert made.specs == ("3", "1")
    made = onnxcam.visualize(bundled_model(), ["star", 8, "8"], count=2, steps=1, device="cpu")
    assert made.names == ("star", "star")


def test_score_without_gradient_is_noticed() -> None:
    text = "(float[N, 3, 4, 4] x) => (float[N, 48] y) { m = Max(x, two) y = Flatten(m) }"
    text = text.replace("=> (float[N, 48] y)", "=> (float[N, 48] y) <float[1] two = {2}>")
    made = onnxcam.visualize(make_model(text), 0, count=1, steps=2, **PLAIN)
    assert any("no gradient reached the image" in notice for notice in made.notices)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, SettingError, "name either a target"),
        ({"target": 0, "layer": "x"}, SettingError, "name either a target"),
        ({"target": []}, SettingError, "no target"),
        ({"target": 0, "channels": "1"}, SettingError, "belong to a layer"),
        ({"target": "top1"}, TargetError, "no image yet"),
        ({"target": "0@box:1"}, TargetError, "no image yet that has places"),
        ({"target": 99}, TargetError, "99"),
        ({"target": 0, "depth": 3}, UnknownNameError, "known: count, steps"),
        ({"target": 0, "steps": 0}, SettingError, "steps=0"),
        ({"target": 0, "basis": "wavelets"}, SettingError, "fourier, pixels"),
        ({"layer": "relu"}, SettingError, "choose some with --channels"),
        ({"layer": "relu", "channels": "999"}, SettingError, "no channel 999"),
        (
            {"layer": "relu", "channels": "0", "region": "0:999,0:1"},
            SettingError,
            "beyond the layer",
        ),
        ({"layer": "relu,relu_1", "channels": "0"}, SettingError, "name one of them"),
        ({"target": ["element:relu[0,0,0]", 1]}, TargetError, "name other kinds of targets alone"),
    ],
)
def test_impossible_request_is_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        onnxcam.visualize(bundled_model(), device="cpu", **arguments)


def test_element_of_tensor_is_a_target() -> None:
    made = onnxcam.visualize(linear_model(), "element:y[4]", count=1, steps=3, **PLAIN)
    assert made.scores[0] > made.history[0, 0]
    assert made.specs == ("element:y[4]",)


def test_embedding_becomes_similar_to_reference(tmp_path: Path) -> None:
    body = "c = Conv<pads=[1, 1, 1, 1]>(x, w) r = Tanh(c) p = GlobalAveragePool(r) v = Flatten(p)"
    norm = "n = ReduceL2<axes=[1], keepdims=1>(v) y = Div(v, n)"
    text = f"(float[N, 1, 6, 6] x) => (float[N, 3] y) {{ {body} {norm} }}"
    kernels = WEIGHTS[:, :1] - WEIGHTS[:, :1].mean(axis=(2, 3), keepdims=True)
    image = np.indices((6, 6)).sum(axis=0) % 2
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(image, 1), (3, 3))
    features = np.tanh(np.einsum("hwij,oij->ohw", windows, kernels[:, 0])).mean(axis=(1, 2))
    np.save(tmp_path / "wanted.npy", features)
    target = f"similar:{tmp_path / 'wanted.npy'}"
    model = make_model(text, kernels)
    made = onnxcam.visualize(model, target, count=1, steps=120, rate=0.02, **PLAIN)
    assert made.history[0, 0] < 0.98
    assert made.scores[0] > 0.99
