"""Models as exporters leave them: other layouts, fixed or free sizes, several outputs, bytes for input."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import onnxcam
from onnxcam.errors import ImageError
from onnxcam.methods.postprocess import resize_bilinear
from tests.explain.support.explained import (
    X,
    assert_same_map,
    clean_quantities,
    make_explainer,
    noisy,
    smoothed_quantities,
    top_class_weights,
)
from tests.methods.support.formulas import run
from tests.support.nets import (
    ANY_SIZE,
    DEEP,
    FIXED,
    GREY,
    MIXING,
    MLP,
    NHWC,
    POOLED,
    TWO_OUTPUTS,
    random_images,
)

SMOOTH: dict[str, Any] = {"samples": 7, "noise": 0.2, "seed": 3}
RGB = Image.fromarray(np.random.default_rng(5).integers(0, 256, (20, 30, 3), np.uint8))


def test_channels_last_input_gives_same_map() -> None:
    """The same image gives the same map, whichever axis holds the channels."""
    turned = X.transpose(0, 2, 3, 1)
    for method in ("grad-cam", "grad-cam++"):
        assert_same_map(
            make_explainer(NHWC, method)(turned).maps, make_explainer(DEEP, method)(X).maps
        )
    explanation = make_explainer(NHWC, **SMOOTH)(turned[:1])
    assert explanation.maps.shape == (1, 8, 8)
    source = smoothed_quantities(DEEP, X[0], top_class_weights(DEEP, X[0]), 7, 0.2, 3)
    copies = noisy(turned[0], 0.2 * (X[0].max() - X[0].min()), 7, 3).transpose(0, 3, 1, 2)
    g = DEEP.slope(DEEP.features(copies), top_class_weights(DEEP, X[0]))
    source |= {f"d{p}": np.mean(g**p, axis=0)[None] for p in (1, 2, 3)}
    assert_same_map(explanation.layer_maps, run("smooth-grad-cam++", source))


def test_channels_last_layer_gives_same_map() -> None:
    """The map of a transposed layer is the map of the layer."""
    last = replace(
        DEEP,
        flatten="Flatten(upright)",
        head="    turned = Transpose<perm = [0, 2, 3, 1]>(features)\n"
        "    upright = Transpose<perm = [0, 3, 1, 2]>(turned)\n" + DEEP.head,
    )
    explainer = make_explainer(last, "grad-cam", layer="turned")
    assert explainer.plan.layers[0].layout == "NHWC"
    assert (explainer.plan.layers[0].grid, explainer.plan.layers[0].channels) == ((4, 4), 6)
    assert_same_map(explainer(X).layer_maps, make_explainer(DEEP, "grad-cam")(X).layer_maps)


def test_image_for_channels_last_model_gives_same_map() -> None:
    first, second = (
        make_explainer(net, "grad-cam++", preprocess="unit")(RGB, target=1) for net in (DEEP, NHWC)
    )
    assert_same_map(second.maps, first.maps)


def test_fixed_batch_of_one_is_freed() -> None:
    explainer = make_explainer(FIXED, **SMOOTH)
    assert explainer.plan.image.batch is None
    assert not explainer.notices
    assert_same_map(explainer(X).maps, make_explainer(DEEP, **SMOOTH)(X).maps)


def test_mixing_model_is_run_one_by_one_with_notice() -> None:
    explainer = make_explainer(MIXING, **SMOOTH)
    assert explainer.plan.image.batch == 1
    explanation = explainer(X[:2])
    assert [notice for notice in explanation.notices if "exactly 1 image" in notice]
    sizes = []
    session = explainer.runner.main.session
    real = session.run

    def record_sizes(outputs: Any, feeds: Any) -> Any:
        sizes.append(len(feeds["x"]))
        return real(outputs, feeds)

    session.run = record_sizes  # type: ignore[method-assign]
    second = explainer(X[:2])
    assert set(sizes) == {1}
    np.testing.assert_array_equal(second.maps, explanation.maps)


def test_mixing_model_gives_gradient_of_single_image() -> None:
    """d(z_c / |sum z|) at batch 1: (e_c - sign(sum) s_c 1) / |sum z|."""
    explanation = make_explainer(MIXING, "grad-cam")(X[:1], target=1)
    features = MIXING.features(X[:1])
    z = MIXING.logits(features)[0]
    total = z.sum()
    weights = (np.eye(5)[1] - np.sign(total) * z[1] / abs(total)) / abs(total)
    assert_same_map(
        explanation.layer_maps, run("grad-cam", clean_quantities(MIXING, X[0], weights))
    )


def test_fixed_batch_of_several_is_filled_up() -> None:
    four = replace(POOLED, head=MLP + "    probabilities = Softmax<axis = -1>(logits)",
                   shape="4, 3, 8, 8", outputs="float[4, 5] probabilities")  # fmt: skip
    explainer = make_explainer(four, **SMOOTH)
    assert any("exactly 4 images" in notice for notice in explainer.notices)
    assert_same_map(explainer(X).maps, make_explainer(DEEP, **SMOOTH)(X).maps)


@pytest.mark.parametrize("method", ["grad-cam", "smooth-grad-cam++"])
def test_images_of_any_size_are_explained(method: str) -> None:
    """One after the other through the same explainer: nothing of one size is kept for another."""
    explainer = make_explainer(ANY_SIZE, method)
    for size in ((8, 8), (12, 20), (9, 7), (8, 8)):
        x = random_images(1, (3, *size), seed=1)
        actual = explainer(x, target=1)
        assert actual.maps.shape == (1, *size)
        g = ANY_SIZE.slope(ANY_SIZE.features(x), np.eye(5)[1])
        quantities = {"activation": ANY_SIZE.features(x), "gradient": g}
        quantities |= {f"d{p}": g**p for p in (1, 2, 3)}
        assert_same_map(actual.layer_maps, run(method, quantities))
        assert_same_map(actual.maps, resize_bilinear(actual.layer_maps, *size))


def test_different_sizes_in_one_call_are_refused() -> None:
    explainer = make_explainer(ANY_SIZE, "grad-cam")
    with pytest.raises(ImageError, match="images have 2 sizes, one of them 9 x 8"):
        explainer([random_images(1)[0], random_images(1, (3, 9, 8))[0]])


def test_model_of_any_size_takes_images() -> None:
    explanation = make_explainer(ANY_SIZE, "grad-cam")([RGB, RGB.resize((50, 90))])
    assert explanation.maps.shape == (2, 224, 224)


def test_model_of_one_channel_takes_rgb_images() -> None:
    x = random_images(1, (1, 8, 8))
    explanation = make_explainer(GREY, "grad-cam++")(x)
    assert_same_map(
        explanation.layer_maps,
        run("grad-cam++", clean_quantities(GREY, x[0], top_class_weights(GREY, x[0]))),
    )
    assert make_explainer(GREY, "grad-cam++")(RGB).maps.shape == (1, 8, 8)


def test_output_with_class_scores_is_found() -> None:
    explainer = make_explainer(TWO_OUTPUTS, "grad-cam++")
    assert (explainer.plan.score.output, explainer.plan.explained_tensor) == (
        "probabilities",
        "logits",
    )
    assert_same_map(explainer(X).maps, make_explainer(DEEP, "grad-cam++")(X).maps)


def test_named_output_is_explained() -> None:
    explainer = make_explainer(DEEP, "grad-cam++", output="hidden")
    assert explainer.plan.score.classes == 8
    assert explainer(X[:1], target=7).scores.shape == (1,)
    dense = make_explainer(TWO_OUTPUTS, "grad-cam++", output="boxes")
    assert dense.plan.score.classes == 12  # (N, 12, 4, 4): channels, not rows


def whole_numbers(kind: str) -> bytes:
    """DEEP with an input of integers, scaled inside."""
    net = replace(DEEP, lead="    cast = Cast<to = 1>(x)\n    scaled = Mul(cast, step)", x="scaled")
    proto = net.proto()
    number = {"uint8": onnx.TensorProto.UINT8, "int8": onnx.TensorProto.INT8}[kind]
    proto.graph.input[0].type.tensor_type.elem_type = number
    proto.graph.initializer.append(
        onnx.numpy_helper.from_array(np.array(1 / 64, np.float32), "step")
    )
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_noise_on_integers_is_rounded_and_saturated(kind: str) -> None:
    limits = np.iinfo(kind)
    x = np.random.default_rng(3).integers(limits.min, limits.max + 1, (1, 3, 8, 8)).astype(kind)
    x[0, 0, 0, :2] = limits.min, limits.max
    explainer = onnxcam.Explainer(whole_numbers(kind), layer="features", device="cpu", **SMOOTH)
    explanation = explainer(x, target=1)
    copies = np.clip(np.rint(noisy(x[0], 0.2 * 255, 7, 3)), limits.min, limits.max) / 64
    g = DEEP.slope(DEEP.features(copies), np.eye(5)[1])
    options = {f"d{p}": np.mean(g**p, axis=0)[None] for p in (1, 2, 3)}
    assert_same_map(
        explanation.layer_maps,
        run("smooth-grad-cam++", {"activation": DEEP.features(x / 64), **options}),
    )


def test_loaded_model_is_used_unchanged() -> None:
    model = onnxcam.load(DEEP.content())
    explanation = onnxcam.Explainer(model, "grad-cam", device="cpu")(X[:1])
    assert_same_map(explanation.maps, make_explainer(DEEP, "grad-cam")(X[:1]).maps)
    assert explanation.provenance["model"]["sha256"] == model.digest


def test_notice_of_session_is_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    explainer = make_explainer(DEEP, "grad-cam")
    explainer.runner.main.session.notices = ("runs on the CPU: because",)
    assert explainer(X[:1]).notices == ("runs on the CPU: because",)
