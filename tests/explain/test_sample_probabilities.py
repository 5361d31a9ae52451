"""Probabilities of samples, whatever the shapes of logits and outputs: those that ONNX Runtime returns."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import onnxcam
from onnxcam.model.model import Model
from tests.explain.support.explained import X
from tests.model.support.texts import load_text

HEAD = """({image} x) => (float[{output}] y) {{
    r = Relu(x) c = Conv(r, w) g = GlobalAveragePool(c) flat = Constant<value_ints = [-1, {classes}]>()
    spread = Constant<value_ints = [-1, 1, 1, {classes}]>() middle = Constant<value_ints = [-1, 1, {classes}]>()
    {end} }}"""
ENDS = {
    "four axes": ("N, 5, 1, 1", "y = Identity(g)"),
    "four axes, channels last": ("N, 1, 1, 5", "y = Transpose<perm = [0, 2, 3, 1]>(g)"),
    "three axes": ("N, 1, 5", "y = Reshape(g, middle)"),
    "two axes": ("N, 5", "y = Reshape(g, flat)"),
    "softmax of four axes": ("N, 5, 1, 1", "y = Softmax<axis = 1>(g)"),
    "softmax of four axes, then two": ("N, 5", "s = Softmax<axis = 1>(g) y = Reshape(s, flat)"),
    "softmax, channels last, then two": (
        "N, 5",
        "t = Transpose<perm = [0, 2, 3, 1]>(g) s = Softmax<axis = 3>(t) y = Reshape(s, flat)",
    ),
    "softmax of two axes, then four": (
        "N, 1, 1, 5",
        "z = Reshape(g, flat) s = Softmax(z) y = Reshape(s, spread)",
    ),
    "sigmoid of four axes, then two": ("N, 5", "s = Sigmoid(g) y = Reshape(s, flat)"),
}
KEPT: Any = {"masks": 7, "probability": 1.0}  # nothing is hidden: the map is the probability


def network(output: str, end: str, batch: str = "N") -> Model:
    text = HEAD.format(
        image=f"float[{batch}, 3, 8, 8]", output=output.replace("N", batch), end=end, classes=5
    )
    model = load_text(text, w=(5, 3, 1, 1))
    weights = 3 * np.random.default_rng(1).normal(size=(5, 3, 1, 1))
    model.graph.tensors()["w"].values = weights.astype(np.float32)
    return model


def probabilities_of(model: Model, images: Any, *, is_activated: bool) -> Any:
    session = ort.InferenceSession(model.bytes())
    rows = [session.run(None, {"x": image[None]})[0].reshape(-1) for image in images]
    scores = np.stack(rows).astype(np.float64)
    if is_activated:
        return scores
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


ACTIVATED = [name for name, (_, end) in ENDS.items() if "Softmax" in end or "Sigmoid" in end]
CASES = [*((name, "logit") for name in ENDS), *((name, "probability") for name in ACTIVATED)]


@pytest.mark.parametrize("batch", ["N", "1"])
@pytest.mark.parametrize(("head", "score"), CASES)
def test_probability_of_samples_is_that_of_the_model(head: str, score: str, batch: str) -> None:
    (output, end), is_activated = ENDS[head], head in ACTIVATED
    model = network(output, end, batch)
    expected = probabilities_of(model, X, is_activated=is_activated)
    explainer = onnxcam.Explainer(model, "rise", device="cpu", chunk=4, score=score, **KEPT)
    for target in ("3", "not 3", "top1"):
        maps = explainer(X, target).maps
        rows = {"3": expected[:, 3], "not 3": 1 - expected[:, 3], "top1": expected.max(axis=1)}
        np.testing.assert_allclose(maps.min(axis=(1, 2)), rows[target], rtol=1e-4)
        np.testing.assert_allclose(maps.max(axis=(1, 2)), rows[target], rtol=1e-4)
