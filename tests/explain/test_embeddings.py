"""Embeddings and regressions: numbers of the image that are no classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxcam
from onnxcam.errors import TargetError
from onnxcam.model.load import load
from onnxcam.model.model import Model

DRAW = np.random.Generator(np.random.SFC64(3))
WEIGHTS = {
    "stem": DRAW.standard_normal((4, 3, 3, 3)).astype(np.float32),
    "head": DRAW.standard_normal((4, 6)).astype(np.float32),
    "age": DRAW.standard_normal((4, 1)).astype(np.float32),
}
IMAGES = DRAW.standard_normal((3, 3, 8, 8)).astype(np.float32)
BODY = "c = Conv<pads = [1, 1, 1, 1]>(x, stem) f = Relu(c) p = GlobalAveragePool(f) v = Flatten(p)"
NORMED = (
    f"{BODY} e = MatMul(v, head) n = ReduceL2<axes = [1], keepdims = 1>(e) embedding = Div(e, n)"
)
PLAIN = f"{BODY} embedding = MatMul(v, head)"
REGRESSION = f"{BODY} landmarks = MatMul(v, head) age = MatMul(v, age)"


def make_model(body: str, outputs: str = "float[N, 6] embedding") -> Model:
    text = f"(float[N, 3, 8, 8] x) => ({outputs}) {{ {body} }}"
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> net {text}')
    for name, weights in WEIGHTS.items():
        proto.graph.initializer.append(numpy_helper.from_array(weights, name + "_w"))
    for node in proto.graph.node:
        node.input[:] = [f"{name}_w" if name in WEIGHTS else name for name in node.input]
    return load(proto)


def vectors(images: Any) -> Any:
    """(N, 6): the embedding before its normalization, by hand."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    features = np.maximum(np.einsum("nchwij,ocij->nohw", windows, WEIGHTS["stem"]), 0)
    return features.mean(axis=(2, 3)) @ WEIGHTS["head"]


def explain(model: Model, target: Any = "top1", images: Any = IMAGES) -> onnxcam.Explanation:
    return onnxcam.Explainer(model, "hires-cam", "f", device="cpu")(images, target)


@pytest.mark.parametrize("body", [NORMED, PLAIN])
def test_norm_before_normalization_is_explained(body: str) -> None:
    explanation = explain(make_model(body))
    expected = np.linalg.norm(vectors(IMAGES), axis=1)
    np.testing.assert_allclose(explanation.scores, expected, rtol=1e-5)
    assert explanation.targets == ("norm of the embedding",) * 3
    assert explanation.maps.any()
    assert any("similar:REFERENCE" in notice for notice in explanation.notices)


@pytest.mark.parametrize("body", [NORMED, PLAIN])
def test_similarity_is_the_cosine(body: str, tmp_path: Path) -> None:
    np.save(tmp_path / "reference.npy", 3 * vectors(IMAGES[1:2])[0])
    explanation = explain(make_model(body), f"similar:{tmp_path / 'reference.npy'}")
    rows = vectors(IMAGES)
    cosines = rows @ rows[1] / np.linalg.norm(rows, axis=1) / np.linalg.norm(rows[1])
    np.testing.assert_allclose(explanation.scores, cosines, rtol=1e-5)
    assert explanation.targets[0] == "similar to reference.npy"
    assert explanation.probabilities is None


def test_gradient_of_similarity_equals_differences(tmp_path: Path) -> None:
    """Saliency is the size of the gradient of the cosine, here against differences of the cosine by hand."""
    reference = vectors(IMAGES[1:2])[0]
    np.save(tmp_path / "reference.npy", reference)
    explainer = onnxcam.Explainer(make_model(NORMED), "gradient-x-input", device="cpu")
    explanation = explainer(IMAGES[:1], f"similar:{tmp_path / 'reference.npy'}")
    assert explanation.attributions is not None

    def cosine(image: Any) -> float:
        (row,) = vectors(image)
        return float(row @ reference / np.linalg.norm(row) / np.linalg.norm(reference))

    for index in [(0, 2, 3), (1, 5, 5), (2, 0, 7)]:
        step = np.zeros(IMAGES[:1].shape)
        step[(0, *index)] = 1e-5
        slope = (cosine(IMAGES[:1] + step) - cosine(IMAGES[:1] - step)) / 2e-5
        expected = slope * IMAGES[(0, *index)]
        assert explanation.attributions[(0, *index)] == pytest.approx(expected, rel=2e-3, abs=1e-5)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(5), "has 5 numbers; expected 6"),
        (np.zeros(6), "the norm of .* is 0"),
        (np.full(6, np.nan), "NaN or infinite"),
        (np.array(["a"] * 6), "holds no numbers"),
    ],
)
def test_unsuitable_reference_is_refused(array: Any, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "reference.npy", array)
    with pytest.raises(TargetError, match=message):
        explain(make_model(NORMED), f"similar:{tmp_path / 'reference.npy'}")


def test_values_of_all_outputs_are_named_and_chosen() -> None:
    model = make_model(REGRESSION, "float[N, 6] landmarks, float[N, 1] age")
    first, fourth = explain(model), explain(model, "value:3")
    assert first.targets == ("landmarks[0]",) * 3
    np.testing.assert_allclose(first.scores, vectors(IMAGES)[:, 0], rtol=1e-4, atol=1e-5)
    assert fourth.targets == ("landmarks[3]",) * 3
    np.testing.assert_allclose(fourth.scores, vectors(IMAGES)[:, 3], rtol=1e-4, atol=1e-5)
    last = explain(model, "age")
    assert last.indices == (6,) * 3
    assert any("value:0 is explained" in notice for notice in first.notices)
    with pytest.raises(TargetError, match="0 to 6"):
        explain(model, "value:7")


def test_task_overrides_what_the_names_suggest() -> None:
    explainer = onnxcam.Explainer(make_model(PLAIN), "hires-cam", "f", task="classification")
    explanation = explainer(IMAGES)
    assert explanation.indices == tuple(vectors(IMAGES).argmax(axis=1))
    assert not any("similar:" in notice for notice in explanation.notices)


def test_values_with_further_axes_are_all_counted() -> None:
    body = f"{BODY} e = MatMul(v, head) s = Constant<value_ints = [-1, 3, 2]>() y = Reshape(e, s)"
    model = make_model(body, "float[N, 3, 2] y")
    explanation = onnxcam.Explainer(model, "hires-cam", "f", task="regression")(IMAGES, "value:5")
    assert explanation.targets == ("y[5]",) * 3
    np.testing.assert_allclose(explanation.scores, vectors(IMAGES)[:, 5], rtol=1e-4, atol=1e-5)
