"""The probability of a target agrees with the output of ONNX Runtime, or is not given."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import onnxcam
from onnxcam.explain.probabilities import (
    class_probabilities,
    format_probability,
    join_images,
    target_probability,
)
from onnxcam.model.model import Model
from onnxcam.specs import Score
from onnxcam.targets.classes import parse_target
from tests.explain.support.explained import X, make_explainer
from tests.model.support.texts import load_text
from tests.support.nets import POOL, SOFTMAX, Net

HEAD = """(float[N, 3, 8, 8] x) => ({output}) {{
    r = Relu(x) c = Conv(r, w) g = GlobalAveragePool(c) z = Flatten(g)
    two = Constant<value_float = 2.0>() {end} }}"""
CLASSES = "float[N, 5] y"


def network(end: str, output: str = CLASSES, classes: int = 5) -> Model:
    shape = (classes, 3, 1, 1)
    model = load_text(HEAD.format(output=output, end=end), w=shape)
    weights = 3 * np.random.default_rng(1).normal(size=shape)
    model.graph.tensors()["w"].values = weights.astype(np.float32)
    return model


def explain(model: Model, target: Any, **options: Any) -> onnxcam.Explanation:
    return onnxcam.Explainer(model, "grad-cam", "r", **options)(X, target)


def run(model: Model, output: str) -> Any:
    session = ort.InferenceSession(model.bytes())
    return np.concatenate([session.run([output], {"x": x[None]})[0] for x in X]).reshape(len(X), -1)


EXACT = {
    "softmax": "y = Softmax(z)",
    "softmax of four axes": "s = Softmax<axis = 1>(g) y = Flatten(s)",
    "sigmoid": "y = Sigmoid(z)",
    "sigmoid of negated logits": "n = Neg(z) y = Sigmoid(n)",
    "cast": "s = Softmax(z) h = Cast<to = 1>(s) y = Identity(h)",
}


@pytest.mark.parametrize("end", EXACT.values(), ids=EXACT)
@pytest.mark.parametrize("score", ["logit", "probability"])
def test_probability_is_output_of_model(end: str, score: str) -> None:
    model = network(end)
    explanation = explain(model, 3, score=score)
    assert explanation.probabilities is not None
    assert explanation.probabilities.dtype == np.float64
    np.testing.assert_allclose(explanation.probabilities, run(model, "y")[:, 3], rtol=1e-5)
    against = explain(model, "not 3", score=score).probabilities
    assert against is not None
    np.testing.assert_allclose(against, 1 - explanation.probabilities, rtol=1e-12)


def test_probability_of_log_softmax_is_its_exponential() -> None:
    model = network("y = LogSoftmax(z)")
    probabilities = explain(model, 2).probabilities
    assert probabilities is not None
    np.testing.assert_allclose(probabilities, np.exp(run(model, "y")[:, 2]), rtol=1e-5)


def test_probability_of_rescaled_softmax_is_that_before_scaling() -> None:
    model = network("p = Softmax(z) y = Mul(p, two)")
    probabilities = explain(model, 2).probabilities
    assert probabilities is not None
    np.testing.assert_allclose(probabilities, run(model, "y")[:, 2] / 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("target", "other"), [("dog", False), ("cat", True), (0, False), ("not 0", True)]
)
def test_sides_of_one_logit_have_opposite_probabilities(target: Any, other: bool) -> None:
    model = network("y = Sigmoid(z)", "float[N, 1] y", classes=1)
    probabilities = explain(model, target, labels=["cat", "dog"]).probabilities
    p = run(model, "y")[:, 0]
    assert probabilities is not None
    np.testing.assert_allclose(probabilities, 1 - p if other else p, rtol=1e-5)


WITHOUT = {
    "logits": "y = Identity(z)",
    "centered": "m = ReduceMean<axes = [-1]>(z) y = Sub(z, m)",
    "tanh": "t = Tanh(z) y = Add(t, two)",  # 2 + tanh z
    "softmax of nothing": "u = Softmax<axis = 2>(g) y = Flatten(u)",
    "mean of two": "a = Softmax(z) b = Sigmoid(z) s = Add(a, b) y = Div(s, two)",
    "power of two": "e = Pow(two, z) s = ReduceSum<keepdims = 1>(e, last) y = Div(e, s)",
}
LAST = " last = Constant<value_ints = [-1]>() "


@pytest.mark.parametrize("end", WITHOUT.values(), ids=WITHOUT)
def test_head_without_exact_probabilities_has_none(end: str) -> None:
    assert explain(network(LAST + end), 2).probabilities is None


def test_rounded_logits_give_no_probability() -> None:
    """The explained logits are those before rounding, the model's probabilities those after it."""
    rounding = """
        s = Constant<value_float = 0.1>() zero = Constant<value_float = 0.0>() i = Cast<to = 3>(zero)
        q = QuantizeLinear(z, s, i) d = DequantizeLinear(q, s, i) y = Softmax(d)"""
    assert explain(network(rounding), 1).probabilities is None


def test_segmenter_has_mean_probability_of_its_pixels() -> None:
    model = load_text(
        """(float[N, 3, 8, 8] x) => (float[N, 5, 8, 8] y) { r = Relu(x) c = Conv(r, w) y = Sigmoid(c) }""",
        w=(5, 3, 1, 1),
    )
    explanation = explain(model, 1)
    (scores,) = ort.InferenceSession(model.bytes()).run(["y"], {"x": X})
    wins = scores.argmax(axis=1) == 1
    expected = [
        row[1][win].mean() if win.any() else row[1].mean()
        for row, win in zip(scores, wins, strict=True)
    ]
    np.testing.assert_allclose(np.asarray(explanation.probabilities), expected, rtol=1e-5)


def test_contrast_has_no_probability() -> None:
    explainer = make_explainer(Net(head=POOL + SOFTMAX), "grad-cam")
    assert explainer(X, "1-2").probabilities is None
    mixed = explainer(X, ["1", "1-2", "2"]).probabilities
    assert mixed is not None
    assert np.isnan(mixed).tolist() == [False, True, False]
    manifest = explainer(X, ["1", "1-2", "2"]).manifest(1)
    assert manifest["target"]["probability"] is None


def test_caption_has_probability_beside_logit(monkeypatch: pytest.MonkeyPatch) -> None:
    explanation = make_explainer(Net(head=POOL + SOFTMAX), "grad-cam")(X, ["1", "1-2", "2"])
    captions = []

    def keep_caption(image: Any, *_: Any, caption: str, **__: Any) -> Any:
        captions.append(caption)
        return image

    monkeypatch.setattr("onnxcam.image.overlay.overlay", keep_caption)
    for index in range(2):
        explanation.overlay(index, caption=True)
    assert re.fullmatch(r"class 1 -?[\d.e-]+ \(p = 0\.\d+\) · grad-cam", captions[0])
    assert re.fullmatch(r"class 1 - class 2 -?[\d.e-]+ · grad-cam", captions[1])


SOFT = Score("p", "z", "Softmax", 3, exact_activation=True)


@pytest.mark.parametrize("activation", ["Softmax", "Sigmoid"])
def test_huge_logits_do_not_overflow(activation: str) -> None:
    score = Score("p", "z", activation, 3, exact_activation=True)
    probabilities = class_probabilities(score, "z", np.array([[1e4, -1e4, -1e4]], np.float32))
    np.testing.assert_array_equal(probabilities, [[1, 0, 0]])


@pytest.mark.parametrize(
    ("tensor", "expected"), [("elsewhere", None), ("z", [1 / 3, 1 / 3]), ("p", [0, 0])]
)
def test_probability_depends_on_explained_tensor(tensor: str, expected: list[float] | None) -> None:
    target = parse_target(1, 3, None, None)
    probabilities = target_probability(SOFT, tensor, np.zeros((2, 3)), target)
    assert (None if probabilities is None else probabilities.tolist()) == expected


def test_join_images_fills_gaps() -> None:
    assert join_images([None, None]) is None
    joined = join_images([np.array([0.5]), None])
    np.testing.assert_array_equal(joined, [0.5, np.nan])


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (0.87449, " (p = 0.874)"),
        (1.0, " (p = 1)"),
        (2.5e-9, " (p = 2.5e-09)"),
        (None, ""),
        (np.nan, ""),
    ],
)
def test_format_probability(probability: float | None, text: str) -> None:
    assert format_probability(probability) == text
