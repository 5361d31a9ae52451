"""Outputs that hold the number or name of the best class, or a mask: the scores before them are explained."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxcam
from onnxcam.errors import ModelError
from onnxcam.heads.class_choice import scores_before_choice
from onnxcam.heads.dense_score import ensure_class_scores
from onnxcam.model.load import load
from tests.heads.support.nets import POOL, build
from tests.support.nets import random_images

SCORES = f"{POOL} logits = MatMul(f, m)"
HALF = "half = Constant<value_float = 0.5>()"
CHOICES = {  # output, body, and the tensor that is explained
    "numbers": ("int64[N] y", f"{SCORES} y = ArgMax<axis = 1, keepdims = 0>(logits)", "logits"),
    "numbers, axis kept": ("int64[N, 1] y", f"{SCORES} y = ArgMax<axis = -1>(logits)", "logits"),
    "numbers as floats": (
        "float[N] y",
        f"{SCORES} k = ArgMax<axis = 1, keepdims = 0>(logits) y = Cast<to = 1>(k)",
        "logits",
    ),
    "numbers of probabilities": (
        "int32[N] y",
        f"""{SCORES} q = Softmax<axis = 1>(logits) k = ArgMax<axis = 1, keepdims = 0>(q)
            y = Cast<to = 6>(k)""",
        "logits",
    ),
    "names by position": (
        "string[N] y",
        f"{SCORES} k = ArgMax<axis = 1, keepdims = 0>(logits) y = Gather(names, k)",
        "logits",
    ),
    "names of a converter": (
        "string[1, N] y",
        f"""{SCORES} k = ArgMax<axis = 1, keepdims = 0>(logits)
            y = ai.onnx.ml.ArrayFeatureExtractor(names, k)""",
        "logits",
    ),
    "names by an encoder": (
        "string[N] y",
        f"""{SCORES} k = ArgMax<axis = 1, keepdims = 0>(logits)
            y = ai.onnx.ml.LabelEncoder<keys_int64s = [0, 1], values_strings = ["a", "b"]>(k)""",
        "logits",
    ),
    "true above a threshold": (
        "bool[N, 1] y",
        f"{POOL} g = MatMul(f, n) q = Sigmoid(g) {HALF} y = Greater(q, half)",
        "g",
    ),
    "255 above a threshold": (
        "uint8[N, 1] y",
        f"""{POOL} g = MatMul(f, n) {HALF} b = Less(half, g) i = Cast<to = 1>(b)
            white = Constant<value_float = 255.0>() j = Mul(i, white) y = Cast<to = 2>(j)""",
        "g",
    ),
}
OTHERS = {
    "rounded": ("int64[N, 6] y", f"{SCORES} y = Cast<to = 7>(logits)"),
    "compared with each other": (
        "bool[N, 6] y",
        f"{SCORES} o = Neg(logits) y = Greater(logits, o)",
    ),
    "scores": ("float[N, 6] logits", SCORES),
    "probabilities": ("float[N, 6] y", f"{SCORES} y = Softmax<axis = 1>(logits)"),
}


def net(outputs: str, body: str) -> onnx.ModelProto:
    proto = build(outputs, body)
    if "names" in body:
        names = np.array([f"name {number}" for number in range(6)], object)
        proto.graph.initializer.append(numpy_helper.from_array(names, "names"))
    return proto


@pytest.mark.parametrize("name", CHOICES)
def test_scores_before_choice_are_explained(name: str) -> None:
    outputs, body, logits = CHOICES[name]
    model, score = ensure_class_scores(load(net(outputs, body)))
    assert (score.logits, score.classes) == (logits, 1 if logits == "g" else 6)
    assert "y only names the best class, so" in model.notices[0]
    _, named = ensure_class_scores(load(net(outputs, body)), "y")
    assert named.logits == logits


@pytest.mark.parametrize("name", OTHERS)
def test_other_outputs_choose_nothing(name: str) -> None:
    outputs, body = OTHERS[name]
    assert scores_before_choice(load(net(outputs, body)).graph.outputs[0]) is None


@pytest.mark.parametrize("name", ["rounded", "compared with each other"])
def test_integers_that_choose_nothing_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="no gradient flows through integers"):
        ensure_class_scores(load(net(*OTHERS[name])))


def test_map_of_class_numbers_equals_that_of_scores() -> None:
    chosen = onnxcam.Explainer(
        load(net(*CHOICES["names by position"][:2])), "grad-cam", device="cpu"
    )
    scored = onnxcam.Explainer(load(net(*OTHERS["scores"])), "grad-cam", device="cpu")
    explanations: list[Any] = [
        explainer(random_images(2), target=3) for explainer in (chosen, scored)
    ]
    assert explanations[1].maps.max() > 0
    np.testing.assert_array_equal(explanations[0].maps, explanations[1].maps)


SEGMENTERS = {  # the axis of the ArgMax, the output, and the scores before it
    "channels first": (1, "int64[N, 8, 8] y", "logits = Conv(features, big)"),
    "channels last": (
        3,
        "int64[N, 8, 8] y",
        "c = Conv(features, big) logits = Transpose<perm = [0, 2, 3, 1]>(c)",
    ),
    "flattened": (
        2,
        "int64[N, 64] y",
        "c = Conv(features, big) r = Reshape(c, flat) logits = Transpose<perm = [0, 2, 1]>(r)",
    ),
}


@pytest.mark.parametrize("name", SEGMENTERS)
def test_scores_of_class_numbers_of_pixels_are_explained(name: str) -> None:
    axis, outputs, body = SEGMENTERS[name]
    choice = f"{body} y = ArgMax<axis = {axis}, keepdims = 0>(logits)"
    model, score = ensure_class_scores(load(build(outputs, choice)))
    assert score.classes == 90
    assert "y only names the best class, so logits" in model.notices[0]


def test_axis_of_choice_decides_where_axes_are_unknown() -> None:
    """TopK cannot be followed; the shorter axis would be a guess."""
    body = """r = Reshape(features, flat) t, i = TopK<axis = 2>(r, second) logits = Abs(t)
        y = ArgMax<axis = 1, keepdims = 0>(logits)"""
    model, score = ensure_class_scores(load(build("int64[N, 2] y", body)))
    assert score.classes == 4
    assert not any("unknown" in notice for notice in model.notices)
