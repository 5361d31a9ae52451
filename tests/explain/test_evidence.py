"""Maps that are 0 in theory and 1e-11 by rounding are empty; other small maps are evidence."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcam import Explainer
from onnxcam.methods.rounding import are_nearly_equal, is_below_rounding, is_small, magnitudes
from tests.support.nets import DEEP, POOLED, random_images

METHODS = ["grad-cam", "grad-cam++", "smooth-grad-cam++"]
FEATURES = """
    c1 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w1)
    layer = Relu(c1)
    c2 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(layer, w2)
"""
POOL = """
    pooled = GlobalAveragePool({0})
    flat = Flatten(pooled)
    y = MatMul(flat, v)
"""
ZERO = {  # by mathematics the gradient of the scores at `layer` is 0
    "instance norm, mean": "n = InstanceNormalization(c2, one, none)" + POOL.format("n"),
    "instance norm, mean, bias": "n = InstanceNormalization(c2, one, some)" + POOL.format("n"),
    "layer norm, sum": """
        flat = Flatten(c2)
        n = LayerNormalization(flat, all_one)
        s = ReduceSum<keepdims = 1>(n, last)
        y = Mul(s, row)""",
    "softmax, sum": """
        flat = Flatten(c2)
        p = Softmax(flat)
        s = ReduceSum<keepdims = 1>(p, last)
        y = Mul(s, row)""",
    "standardized by hand": """
        m = ReduceMean<keepdims = 1>(c2, cells)
        d = Sub(c2, m)
        q = Mul(d, d)
        var = ReduceMean<keepdims = 1>(q, cells)
        sd = Sqrt(var)
        n = Div(d, sd)"""
    + POOL.format("n"),
    "length of a unit vector": """
        flat = Flatten(c2)
        n = LpNormalization<axis = 1, p = 2>(flat)
        q = Mul(n, n)
        s = ReduceSum<keepdims = 1>(q, last)
        y = Mul(s, row)""",
    "difference of equal branches": """
        a = GlobalAveragePool(c2)
        b = ReduceMean<keepdims = 1>(c2, cells)
        t = Sub(a, b)
        flat = Flatten(t)
        y = MatMul(flat, v)""",
    "difference of equal curved branches": """
        a = Tanh(c2)
        e = Exp(c2)
        f = Neg(c2)
        g = Exp(f)
        top = Sub(e, g)
        bottom = Add(e, g)
        b = Div(top, bottom)
        t = Sub(a, b)"""
    + POOL.format("t"),
    "x - x": "t = Sub(c2, c2)" + POOL.format("t"),
}
STD_POOL = """
    m = ReduceMean<keepdims = 1>(c2, cells)
    d = Sub(c2, m)
    q = Mul(d, d)
    var = ReduceMean<keepdims = 1>(q, cells)
    sd = Sqrt(var)
    flat = Flatten(sd)
    y = MatMul(flat, v)
"""
DRAW = np.random.default_rng(11)
ARRAYS = {
    "w1": DRAW.normal(0, 0.3, (4, 3, 3, 3)),
    "w2": DRAW.normal(0, 0.3, (6, 4, 3, 3)),
    "v": DRAW.normal(0, 0.5, (6, 5)),
    "row": np.arange(1.0, 6.0)[None],
    "one": np.ones(6),
    "none": np.zeros(6),
    "some": np.linspace(-1, 1, 6),
    "all_one": np.ones(384),
}
AXES = {"last": [1], "cells": [2, 3]}


def model(head: str, kind: str = "float", extra: dict[str, Any] | None = None) -> bytes:
    text = f"""<ir_version: 9, opset_import: ["": 18]>
        net ({kind}[N, 3, 8, 8] x) => ({kind}[N, 5] y) {{ {FEATURES}{head} }}"""
    proto = onnx.parser.parse_model(text)
    used = {name for node in proto.graph.node for name in node.input}
    dtype = {"float": np.float32, "float16": np.float16}[kind]
    arrays = {name: array.astype(dtype) for name, array in ARRAYS.items()}
    arrays |= {name: np.array(axes, np.int64) for name, axes in AXES.items()} | (extra or {})
    proto.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in arrays.items() if name in used
    )
    return bytes(proto.SerializeToString())


def make_explainer(content: bytes, method: str = "grad-cam", **options: Any) -> Explainer:
    settings: dict[str, Any] = {"samples": 5} if "smooth" in method else {}
    options = {"layer": "layer", **settings, **options}
    return Explainer(content, method, device="cpu", cache=False, **options)


def assert_empty(explanation: Any) -> None:
    assert explanation.is_empty.all()
    assert not explanation.maps.any()
    assert not explanation.layer_maps.any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("what", ZERO)
@pytest.mark.parametrize("kind", ["float", "float16"])
def test_zero_gradient_gives_empty_map(what: str, method: str, kind: str) -> None:
    images = random_images(3, seed=5).astype(np.float16 if kind == "float16" else np.float32)
    for target in (0, 3):
        assert_empty(make_explainer(model(ZERO[what], kind), method)(images, target=target))


@pytest.mark.parametrize("kind", ["float", "float16"])
def test_zero_mean_of_gradients_gives_empty_map(kind: str) -> None:
    """At c2 the cells' gradient of a standard deviation is (x - mean) / (n sd): not 0, but 0 in the mean."""
    images = random_images(3, seed=6).astype(np.float16 if kind == "float16" else np.float32)
    content = model(STD_POOL, kind)
    explanation = make_explainer(content, layer="c2")(images, target=1)
    assert_empty(explanation)
    assert "is empty, because" in explanation.notices[-1]
    assert not make_explainer(content, "grad-cam++", layer="c2")(images, target=1).is_empty.any()
    assert not make_explainer(content, layer="layer")(images, target=1).is_empty.all()


def test_notice_names_target_layer_and_hint() -> None:
    explanation = make_explainer(model(ZERO["instance norm, mean, bias"]))(
        random_images(2), target=2
    )
    (notice,) = [notice for notice in explanation.notices if "is empty, because" in notice]
    assert notice.startswith(
        "class 2: the map at layer is empty, because the evidence is no larger than rounding errors"
    )
    assert notice.endswith("choose another layer (`onnxcam layers`), target or method")


def quantized(head: str) -> bytes:
    """The same with the layer and the second weights as integers of eight bits."""
    steps = {
        "step": np.float32(0.02),
        "zero": np.int8(0),
        "q2": np.clip(np.rint(ARRAYS["w2"] / 0.02), -127, 127).astype(np.int8),
    }
    text = """
    c1 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w1)
    r1 = Relu(c1)
    lq = QuantizeLinear(r1, step, zero)
    layer = DequantizeLinear(lq, step, zero)
    w2f = DequantizeLinear(q2, step, zero)
    c2 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(layer, w2f)
"""
    global FEATURES
    original, FEATURES = FEATURES, text
    try:
        return model(head, extra={name: np.asarray(array) for name, array in steps.items()})
    finally:
        FEATURES = original


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("what", ["instance norm, mean", "layer norm, sum", "softmax, sum"])
def test_zero_gradient_of_quantized_model_gives_empty_map(what: str, method: str) -> None:
    assert_empty(
        make_explainer(quantized(ZERO[what]), method, layer="r1")(random_images(2), target=1)
    )
    explanation = make_explainer(quantized("r2 = Relu(c2)" + POOL.format("r2")), method, layer="r1")
    assert not explanation(random_images(2), target="top1").is_empty.any()


# Gradients at the image, by which the map of a layer is multiplied


@pytest.mark.parametrize("what", ZERO)
def test_zero_gradient_at_layer_empties_guided_map(what: str) -> None:
    explanation = make_explainer(model(ZERO[what]), "guided-grad-cam")(random_images(2), target=3)
    assert explanation.is_empty.all()
    assert explanation.attributions is not None
    assert not explanation.attributions.any()


CONSTANT_LAYER = """
    c1 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w1)
    third = Mul(x, thirds)
    c3 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(third, w1)
    same = Div(c3, thirds)
    difference = Sub(c1, same)
    layer = Add(difference, map)
    c2 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(layer, w2)
"""


def test_zero_gradient_at_image_empties_guided_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layer has an effect, but no pixel has one on the layer, except by rounding."""
    monkeypatch.setattr("tests.explain.test_evidence.FEATURES", CONSTANT_LAYER)
    extra = {
        "thirds": np.float32(1 / 3),
        "map": np.random.default_rng(3).random((1, 4, 8, 8), dtype=np.float32),
    }
    content = model("r2 = Relu(c2)" + POOL.format("r2"), extra=extra)
    images = random_images(2)
    guided = make_explainer(content, "guided-grad-cam")(images, target="top1")
    assert guided.is_empty.all()
    assert "is empty, because" in guided.notices[-1]
    assert not make_explainer(content, "grad-cam")(images, target="top1").is_empty.any()


# Saturated probabilities

SATURATED = """
    big = Constant<value_float = {0}>()
    r2 = Relu(c2)
    pooled = GlobalAveragePool(r2)
    flat = Flatten(pooled)
    z = MatMul(flat, v)
    logits = Mul(z, big)
    y = {1}(logits)
"""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("squashing", "factor"), [("Softmax", "60.0"), ("Softmax", "3000.0"), ("Sigmoid", "100.0")]
)
def test_saturated_probability_gives_empty_map(squashing: str, factor: str, method: str) -> None:
    content = model(SATURATED.format(factor, squashing))
    explanation = make_explainer(content, method, score="probability")(
        random_images(1), target="top1"
    )
    assert explanation.scores[0] == 1
    assert_empty(explanation)
    if factor == "60.0":  # the others are 0 without rounding
        assert (
            "the probability is saturated at 1: explain the logit instead"
            in explanation.notices[-1]
        )
    assert not make_explainer(content, method)(random_images(1), target="top1").is_empty.any()


def test_probabilities_near_zero_and_one_are_explained() -> None:
    explainer = make_explainer(model(SATURATED.format("20.0", "Softmax")), score="probability")
    explanations = [explainer(random_images(1), target=target) for target in range(5)]
    scores = [float(explanation.scores[0]) for explanation in explanations]
    assert min(scores) < 1e-15
    assert 0.999 < max(scores) < 0.9999
    assert not explanations[int(np.argmax(scores))].is_empty[0]
    assert not explanations[int(np.argmin(scores))].is_empty[0]
    assert not any(explanation.notices for explanation in explanations)


@pytest.mark.parametrize("method", METHODS)
def test_image_without_evidence_does_not_clear_others_of_batch(method: str) -> None:
    """Images are run together, but each of them has its own rounding errors."""
    images = random_images(4)
    images[1] *= 1e-3  # all its logits are small, so that its probability is not saturated
    images[3] *= 1e-2
    explainer = make_explainer(
        model(SATURATED.format("60.0", "Softmax")), method, score="probability"
    )
    together = explainer(images, target="top1")
    alone = [explainer(image, target="top1") for image in images]
    assert together.is_empty.any()
    assert not together.is_empty.all()
    np.testing.assert_array_equal(together.is_empty, [one.is_empty[0] for one in alone])
    for number, one in enumerate(alone):
        np.testing.assert_allclose(together.maps[number], one.maps[0], rtol=1e-3, atol=1e-6)
    assert {*together.notices} == {notice for one in alone for notice in one.notices}


# Evidence, however small


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-3, 1.0, 1e6])
def test_scores_of_any_scale_are_explained(scale: float, method: str) -> None:
    """Scores a millionth of a layer's values, and a small part of a large constant."""
    head = POOL.format("c2").replace("y =", "z =") + "y = Mul(z, unit)"
    content = model(head, extra={"unit": np.array(scale, np.float32)})
    explanation = make_explainer(content, method)(random_images(3), target="top1")
    assert explanation.notices == make_explainer(content, method).notices
    plain = make_explainer(model(POOL.format("c2")), method)(random_images(3), target="top1")
    np.testing.assert_array_equal(explanation.is_empty, plain.is_empty)


@pytest.mark.parametrize("method", METHODS)
def test_tiny_probabilities_are_explained(method: str) -> None:
    """A probability of 1e-20 doubles where a logit changes by 0.7, and is not a rounding error."""
    images = 60 * random_images(8) + 60  # nobody scaled them
    explainer = make_explainer(
        model(SATURATED.format("1.0", "Softmax")), method, score="probability"
    )
    steep = 0
    for target in range(5):
        for image in images:
            explanation = explainer(image, target=target)
            if 1e-25 < explanation.scores[0] < 1e-6:
                steep += 1
                assert not explanation.notices, (target, explanation.scores)
    assert steep > 5


def test_small_fraction_of_score_is_explained() -> None:
    head = POOL.format("c2").replace("y =", "z =") + "y = Add(z, bias)"
    for bias in (1e2, 1e4):
        content = model(head, extra={"bias": np.array(bias, np.float32)})
        assert not make_explainer(content)(random_images(3), target=1).notices


@pytest.mark.parametrize("method", [*METHODS, "guided-grad-cam", "guided-grad-cam++"])
@pytest.mark.parametrize("net", [POOLED, DEEP])
def test_ordinary_maps_need_no_extra_pass(
    net: Any, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxcam.explain.run.Runner.nearby", None)
    explainer = make_explainer(net.content(), method, layer="features")
    assert not explainer(random_images(3), target="top1").is_empty.any()


def test_layer_without_evidence_adds_nothing_to_fused_map() -> None:
    """Scaled to its own maximum rounding would weigh as much as evidence."""
    head = (
        ZERO["instance norm, mean"].replace("y =", "z1 =")
        + """
        other = Relu(c1)
        o = GlobalAveragePool(other)
        of = Flatten(o)
        z2 = MatMul(of, u)
        y = Add(z1, z2)"""
    )
    content = model(head, extra={"u": np.ones((4, 5), np.float32)})
    both = make_explainer(content, layer=["c2", "other"])(random_images(1), target=1)
    alone = make_explainer(content, layer="other")(random_images(1), target=1)
    assert "the map at c2 is empty" in both.notices[-1]
    np.testing.assert_allclose(both.maps, alone.maps / alone.layer_maps.max(), rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_small_part_of_layer_is_explained(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of a thousand feature maps changes a score of half precision by less than it is rounded to."""
    draw = np.random.default_rng(1)
    monkeypatch.setitem(ARRAYS, "w1", draw.normal(0, 0.3, (1024, 3, 3, 3)))
    monkeypatch.setitem(ARRAYS, "w2", draw.normal(0, 0.05, (6, 1024, 3, 3)))
    content = model("r2 = Relu(c2)" + POOL.format("r2"), "float16")
    image = random_images(1, seed=5).astype(np.float16)
    subset: dict[str, Any] = {"region": "2:4,2:4"}
    explanations = [
        make_explainer(content, method, channels=[k], **subset)(image, target=1) for k in range(12)
    ]
    assert sum(explanation.layer_maps.max() > 0 for explanation in explanations) >= 3
    assert not any(
        "is empty, because" in notice
        for explanation in explanations
        for notice in explanation.notices
    )


@pytest.mark.parametrize("scale", [1, 30, 300])
def test_probability_that_is_rounded_to_one_is_empty(scale: float) -> None:
    """The probabilities of the other classes do not vanish, but p (1 - p) of the class itself does."""
    head = "r = Relu(c2)" + POOL.format("r").replace("y =", "z =") + "y = Softmax(z)"
    content = model(head, extra={"w1": (scale * ARRAYS["w1"]).astype(np.float32)})
    explainer = make_explainer(content, "gradient-x-input", layer="auto", score="probability")
    explanation = explainer(random_images(24), target="top1")
    is_one = explanation.scores >= 1 - float(np.finfo(np.float32).eps)
    assert explanation.is_empty.tolist() == is_one.tolist()
    says_why = any("is saturated at" in notice for notice in explanation.notices)
    assert (bool(0 < is_one.sum() < 24), says_why) == (scale == 30, scale == 30)


def test_notice_appears_once_for_several_images() -> None:
    explanation = make_explainer(model(ZERO["layer norm, sum"]))(random_images(3), target=1)
    assert len([notice for notice in explanation.notices if "is empty, because" in notice]) == 1


# The bounds

ONE: Any = {"activation": np.ones((1, 2, 3, 3)), "gradient": np.ones((1, 2, 3, 3))}


def test_bounds_of_effect_and_terms() -> None:
    eps, saliency = float(np.finfo(np.float32).eps), np.ones((1, 3, 3))
    one = magnitudes(ONE, saliency)
    assert (one.effect, one.value, one.terms) == (18, 1, 2)
    tiny = magnitudes({**ONE, "gradient": 1e-9 * ONE["gradient"]}, 1e-9 * saliency)
    assert not is_below_rounding(one, 1.0, eps)
    assert is_below_rounding(tiny, 1.0, eps)
    assert not is_below_rounding(tiny, 1e-3, eps)
    assert not is_small(one, saliency, 1.0)
    assert is_small(one, 1e-4 * saliency, 1.0)
    assert is_small(tiny, 1e-9 * saliency, 1e-3)


def test_terms_are_those_of_largest_cell() -> None:
    """Where a map is small beside the largest value times all gradients, all cells are compared."""
    activation = np.zeros((1, 2, 3, 3))
    activation[0, 0, 0, 0], activation[0, 1, 2, 2] = 1.0, 1.0
    probed = {"activation": activation, "gradient": np.ones((1, 2, 3, 3))}
    assert magnitudes(probed, np.ones((1, 3, 3))).terms == 2
    assert magnitudes(probed, 1e-4 * np.ones((1, 3, 3))).terms == 1


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ([[1.0, 2.0], [1.0, 2.1]], True),
        ([[1.0, 2.0], [2.0, 1.0]], False),
        ([[1.0, 2.0], [-1.0, -2.0]], False),
        ([[0.0, 0.0], [0.0, 0.0]], False),
        ([[1e-200, 2e-200], [1e-200, 2e-200]], True),
        ([[1.0, 2.0], [1.0, 2.0], [0.1, 0.2]], False),
    ],
)
def test_are_alike_compares_norms(arrays: list[list[float]], said: bool) -> None:
    assert are_nearly_equal([np.array(array) for array in arrays]) is said
