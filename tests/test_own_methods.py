"""Methods from outside the package: a formula, a sampler, a quantity, a place, a target and a rule table,
registered by the public names.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

import onnxcam
from onnxcam.arrays import Floats, Maps, Saliency
from onnxcam.methods import QUANTITIES, SAMPLERS
from onnxcam.methods.place import PLACES
from onnxcam.registry import Registry
from onnxcam.targets import TARGETS
from tests.explain.support.explained import X, assert_same_map, top_class_weights
from tests.support.nets import CHANNELS, DEEP

REGISTRIES: list[Registry[Any]] = [
    onnxcam.METHODS,
    onnxcam.RULE_TABLES,
    PLACES,
    QUANTITIES,
    SAMPLERS,
    TARGETS,
]


@pytest.fixture(autouse=True)
def restored_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_values", dict(registry))


def explain(method: str, target: Any = "top1", **options: Any) -> onnxcam.Explanation:
    return onnxcam.Explainer(DEEP.content(), method, device="cpu", **options)(X, target)


def top_classes(images: Floats = X) -> Floats:
    return np.stack([top_class_weights(DEEP, x) for x in images])


def numerical_gradient(of: Callable[[Floats], Floats], x: Floats, step: float = 1e-5) -> Floats:
    """The gradient of a function (1, C, H, W) -> number by central differences."""
    gradient = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        change = np.zeros(x.shape)
        change[index] = step
        gradient[index] = (of(x + change) - of(x - change)) / (2 * step)
    return gradient


def test_own_formula_with_setting_computes_map() -> None:
    @onnxcam.method("power-cam", source="this test")
    def power_cam(
        activation: Maps, gradient: Maps, *, power: Annotated[float, "exponent of A"] = 1.0
    ) -> Saliency:
        """relu(sum_k g_k A_k^power)."""
        return np.maximum(np.sum(gradient * activation**power, axis=1), 0.0)

    features = DEEP.features(X)
    gradient = DEEP.slope(features, top_classes())
    explanation = explain("power-cam", layer="features", power=2)
    assert_same_map(explanation.layer_maps, np.maximum(np.sum(gradient * features**2, axis=1), 0))
    assert explanation.manifest()["method"] == {"name": "power-cam", "settings": {"power": 2.0}}


def test_own_sampler_of_images_feeds_its_quantity() -> None:
    """The mean gradient over shifted images, weighted by what the sampler feeds for each of them."""

    @onnxcam.sampler("shifts", counts="shifts")
    def shifts(
        clean: onnxcam.CleanRun, *, shifts: Annotated[int, "number of shifts"] = 3
    ) -> onnxcam.Samples:
        """The model on shifted images."""
        rolled = np.concatenate([np.roll(clean.values, s, axis=3) for s in range(shifts)])
        trust = np.arange(1.0, shifts + 1).reshape(-1, 1, 1, 1).astype(np.float32)
        offsets = (rolled - clean.values).astype(np.float32)
        return onnxcam.Samples(shifts, offsets, np.ones(shifts), inputs={"trust": trust})

    onnxcam.quantity(
        "trusted_size", lambda gradient, trust: np.abs(gradient) * trust, "mean of t |g|", "mean", 1
    )

    @onnxcam.method("shift-map", source="this test", sampler="shifts")
    def shift_map(trusted_size: Maps) -> Saliency:
        """The mean size of the gradient."""
        return np.sum(trusted_size, axis=1)

    expected = []
    for x, weights in zip(X, top_classes(), strict=True):
        rolled = np.stack([np.roll(x, s, axis=2) for s in range(4)])
        sizes = np.abs(DEEP.slope(DEEP.features(rolled), weights))
        trust = np.arange(1.0, 5).reshape(-1, 1, 1, 1)
        expected.append(np.sum(np.mean(sizes * trust, axis=0), axis=0))
    explanation = explain("shift-map", layer="features", shifts=4)
    assert_same_map(explanation.layer_maps, np.stack(expected))


def test_own_sampler_of_activations_runs_the_rest_of_the_model() -> None:
    """How much the score falls without each feature map."""

    @onnxcam.sampler("without-channels", varies="activation")
    def without_channels(clean: onnxcam.CleanRun) -> onnxcam.Samples:
        """The rest of the model without one feature map at a time."""
        count = clean.values.shape[1]
        removed = np.eye(count, dtype=np.float32)[:, :, None, None]
        return onnxcam.Samples(count, -removed * clean.values, np.ones(count))

    @onnxcam.method("loss-cam", source="this test", sampler="without-channels")
    def loss_cam(activation: Maps, score: Floats, sample_scores: Floats) -> Saliency:
        """relu(sum_k (S - S_k) A_k)."""
        loss = np.expand_dims(score, 1) - sample_scores
        return np.maximum(np.sum(np.reshape(loss, (*loss.shape, 1, 1)) * activation, axis=1), 0.0)

    features = DEEP.features(X)
    logits = DEEP.logits(features)
    top = logits.argmax(axis=1)
    loss = np.zeros((len(X), CHANNELS))
    for channel in range(CHANNELS):
        without = features.copy()
        without[:, channel] = 0
        scores = DEEP.logits(without)
        loss[:, channel] = logits.max(axis=1) - scores[range(len(X)), top]
    expected = np.maximum(np.sum(loss[:, :, None, None] * features, axis=1), 0)
    assert_same_map(explain("loss-cam", layer="features").layer_maps, expected)


def test_notices_of_own_sampler_reach_the_user() -> None:
    """Those about each image, too."""

    @onnxcam.sampler("remarks")
    def remarks(clean: onnxcam.CleanRun) -> onnxcam.Samples:
        """the model on the image."""
        about = f"the brightest pixel is {clean.image.max():.3f}"
        return onnxcam.Samples(1, notices=("everything is a remark", about))

    @onnxcam.method("remark-map", source="this test", sampler="remarks")
    def remark_map(activation: Maps, d1: Maps) -> Saliency:
        """Nothing."""
        return np.sum(0 * activation * d1, axis=1)

    explainer = onnxcam.Explainer(DEEP.content(), "remark-map", layer="features", device="cpu")
    with pytest.warns(onnxcam.OnnxcamNotice, match="everything is a remark"):
        explanation = explainer(X)
    abouts = [f"the brightest pixel is {x.max():.3f}" for x in X]
    assert explanation.notices[:2] == ("everything is a remark", abouts[0])
    assert set(explanation.notices) == {"everything is a remark", *abouts}


def test_own_method_at_image_returns_attributions() -> None:
    @onnxcam.method("image-product", source="this test", at="image", signed=True)
    def image_product(activation: Maps, gradient: Maps) -> Maps:
        """The image times its gradient."""
        return activation * gradient

    explanation = explain("image-product")
    x, weights = X[:1].astype(np.float64), top_class_weights(DEEP, X[0])
    gradient = numerical_gradient(lambda x: DEEP.logits(DEEP.features(x))[0] @ weights, x)
    attributions = explanation.attributions
    assert attributions is not None
    np.testing.assert_allclose(
        attributions[:1], x * gradient, rtol=1e-3, atol=1e-4 * np.abs(x * gradient).max()
    )
    np.testing.assert_allclose(explanation.maps, attributions.sum(axis=1), rtol=1e-5, atol=1e-7)
    assert explanation.signed
    assert explanation.layer_maps is None


def test_own_place_gives_formula_several_tensors() -> None:
    @onnxcam.place("rectifiers")
    def rectifiers(model: onnxcam.ModelView) -> list[onnxcam.Place]:
        outputs = [node.outputs[0].name for node in model.nodes if node.op == "Relu"]
        return [onnxcam.Place(output) for output in outputs[:2]]

    @onnxcam.method("rectified", source="this test", at="rectifiers")
    def rectified(activation: tuple[Maps, Maps]) -> Saliency:
        """The values of the first tensor, and the mean of the second."""
        first, second = activation
        return np.sum(first, axis=1) + np.mean(np.sum(second, axis=1))

    explanation = explain("rectified")
    assert explanation.layers == ("early", "features")
    assert explanation.maps.shape == (3, 8, 8)


def test_own_target_is_an_expression_of_tensors() -> None:
    """The squared length of a tensor, half of whose gradient is the tensor itself."""

    def select(match: re.Match[str], shape: tuple[int, ...]) -> onnxcam.Target:
        return onnxcam.Target(f"length of {match['tensor']}", np.ones(1), 0, match[0])

    @onnxcam.target_kind("length", r"length:(?P<tensor>\w+)", select)
    def length(tensors: Mapping[str, Any], tensor: str) -> Any:
        return np.sum(np.square(tensors[tensor]), axis=1, keepdims=True)

    @onnxcam.method("gradient-size", source="this test")
    def gradient_size(gradient: Maps) -> Saliency:
        """The size of the gradient."""
        return np.sum(np.abs(gradient), axis=1)

    features = DEEP.features(X)
    logits = DEEP.logits(features)
    explanation = explain("gradient-size", "length:logits", layer="features")
    np.testing.assert_allclose(explanation.scores, np.sum(logits**2, axis=1), rtol=1e-5)
    assert explanation.targets == ("length of logits",) * 3
    assert_same_map(
        explanation.layer_maps, np.sum(np.abs(DEEP.slope(features, 2 * logits)), axis=1)
    )


def test_own_rule_table_bends_the_backward_pass() -> None:
    """Without the masks of rectifiers, the gradient is the product of the matrices."""
    linear = onnxcam.Rules()
    linear.vjp("Relu", lambda g, y, x: g)
    onnxcam.RULE_TABLES.add("linear", onnxcam.RULE_TABLES["default"] | linear)

    @onnxcam.method("linear-size", source="this test", rules="linear")
    def linear_size(gradient: Maps) -> Saliency:
        """The size of the gradient."""
        return np.sum(np.abs(gradient), axis=1)

    weights = DEEP.weights
    product = (top_classes() @ weights["v"]) @ weights["u"]
    expected = np.sum(np.abs(product.reshape(len(X), CHANNELS, 4, 4)), axis=1)
    assert_same_map(explain("linear-size", layer="features").layer_maps, expected)


def test_second_registration_of_a_name_is_refused() -> None:
    def formula(activation: Maps) -> Saliency:
        """Nothing."""
        return activation[:, 0]

    with pytest.raises(ValueError, match="method 'grad-cam' is registered twice"):
        onnxcam.method("grad-cam", source="this test")(formula)


@pytest.mark.parametrize(("at", "expected"), [("layer", "N, h, w"), ("image", "N, C, H, W")])
def test_result_that_is_no_map_is_refused_by_name(at: str, expected: str) -> None:
    @onnxcam.method("one-number", source="this test", at=at)
    def one_number(activation: Floats) -> Any:
        return np.sum(activation, axis=(1, 2, 3))

    with pytest.raises(ValueError, match=rf"one-number returned .* \(3,\); expected .*{expected}"):
        explain("one-number")


def test_unknown_quantity_is_refused_when_it_is_registered() -> None:
    def formula(activations: Maps) -> Saliency:
        """Nothing."""
        return activations[:, 0]

    with pytest.raises(ValueError, match="takes activations, which are not quantities"):
        onnxcam.method("misspelled", source="this test")(formula)
    assert "misspelled" not in onnxcam.METHODS


def test_request_with_own_quantity_is_not_cached(cache_folder: Path, tmp_path: Path) -> None:
    """The key of an entry holds the sources of the package, but not those of a quantity outside it."""
    path = tmp_path / "net.onnx"
    path.write_bytes(DEEP.content())
    onnxcam.Explainer(path, "grad-cam", layer="features", device="cpu")(X)

    count = len([*cache_folder.rglob("plan.json")])
    assert count == 1

    onnxcam.quantity("cubed_gradient", lambda gradient: gradient**3, "g^3", degree=3)

    @onnxcam.method("cubed", source="this test")
    def cubed(cubed_gradient: Maps) -> Saliency:
        """The sizes of g^3."""
        return np.sum(np.abs(cubed_gradient), axis=1)

    explanation = onnxcam.Explainer(path, "cubed", layer="features", device="cpu")(X)
    gradient = DEEP.slope(DEEP.features(X), top_classes())
    assert_same_map(explanation.layer_maps, np.sum(np.abs(gradient**3), axis=1))
    assert len([*cache_folder.rglob("plan.json")]) == count


def test_input_that_the_sampler_does_not_feed_is_refused() -> None:
    """Zeros in its place gave an empty map."""
    onnxcam.quantity("misread", lambda gradient, stepp: gradient * stepp, "g times s", "mean", 1)

    @onnxcam.method("misread-map", source="this test", sampler="path")
    def misread_map(misread: Maps) -> Saliency:
        """The sum of the channels."""
        return np.sum(np.abs(misread), axis=1)

    with pytest.raises(
        ValueError, match="misread is written from stepp, which sampler path does not feed"
    ):
        explain("misread-map", layer="features")


def test_sampler_that_returns_no_samples_is_refused() -> None:
    @onnxcam.sampler("offsets")
    def offsets(clean: onnxcam.CleanRun) -> Any:
        """the model on the image."""
        return clean.values

    @onnxcam.method("offset-map", source="this test", sampler="offsets")
    def offset_map(d1: Maps) -> Saliency:
        """The sum of the channels."""
        return np.sum(np.abs(d1), axis=1)

    with pytest.raises(ValueError, match="sampler offsets returned ndarray; expected Samples"):
        explain("offset-map", layer="features")
