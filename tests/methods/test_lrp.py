"""`lrp` hands the score back to the pixels and the biases, without a rest."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxcam
from onnxcam.arrays import Floats
from tests.explain.support.vit import Vit
from tests.methods.support.compare import (
    NETS,
    TARGET,
    X,
    assert_attributions,
    assert_close,
    explain,
)
from tests.methods.support.lrp_twin import (
    Constants,
    epsilon_rule,
    lrp,
    mean_rule,
    relevance,
    sum_rule,
)
from tests.support.layered_nets import CLASSES, Activation, Conv, Layer, Linear, Norm
from tests.support.nets import random_images


@pytest.mark.parametrize("net", NETS)
def test_lrp_equals_twin(net: str) -> None:
    explanation = explain("lrp", NETS[net])
    twins = [lrp(NETS[net], x, TARGET) for x in X]
    assert_attributions(explanation, np.stack([attributions for attributions, _ in twins]))
    for facts, (_, absorbed) in zip(explanation.facts, twins, strict=True):
        assert facts["absorbed"] == pytest.approx(absorbed, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("net", NETS)
def test_relevance_of_pixels_and_biases_is_the_score(net: str) -> None:
    explanation = explain("lrp", NETS[net])
    sums = np.sum(np.asarray(explanation.attributions, np.float64), axis=(1, 2, 3))
    for total, facts, score in zip(sums, explanation.facts, explanation.scores, strict=True):
        assert facts["completeness_gap"] < 1e-4
        assert total + facts["absorbed"] == pytest.approx(score, rel=1e-4)
        assert abs(facts["absorbed"]) > 0.01 * abs(score), "a comparison without biases"
    assert not any("completeness_gap" in notice for notice in explanation.notices)


def test_facts_are_in_the_manifest() -> None:
    explanation = explain("lrp", NETS["curved"])
    assert json.loads(json.dumps(explanation.manifest(1)))["facts"] == dict(explanation.facts[1])


def test_image_of_zeros_and_small_shares_are_explained() -> None:
    """A small relevance is a share of the score, not a rounding error of a gradient."""
    explainer = onnxcam.Explainer(NETS["curved"].content(), "lrp", device="cpu", cache=False)
    explanation = explainer(np.stack([0 * X[0], 1e-6 * X[0]]), TARGET)
    assert not any(explanation.is_empty)
    for facts in explanation.facts:
        assert facts["completeness_gap"] < 1e-4


def residual() -> dict[str, Layer]:
    """Layers by the names of their outputs, for `write` and `residual_twin`."""
    random = np.random.default_rng(5)

    def draw(*shape: int) -> Floats:
        return (
            random.normal(0, 1.5 / np.sqrt(np.prod(shape[1:])), shape)
            .astype(np.float32)
            .astype(float)
        )

    def norm(size: int) -> Norm:
        return Norm(*(random.uniform(0.5, 1.5, (4, size)) * [[1], [1], [-1], [1]]))

    return {
        "c0": Conv(draw(4, 3, 3, 3), None),
        "n0": norm(4),
        "x0": Activation("relu"),
        "c1": Conv(draw(5, 4, 3, 3), draw(5), stride=2),
        "n1": norm(5),
        "x1": Activation("relu"),
        "c2": Conv(draw(5, 5, 3, 3), None),
        "n2": norm(5),
        "c3": Conv(draw(5, 4, 3, 3), None, stride=2),
        "n3": norm(5),
        "x2": Activation("relu"),
        "logits": Linear(draw(CLASSES, 5), draw(CLASSES)),
    }


READS = {"c0": "x", "c3": "x0", "x2": "sum", "logits": "flat"}  # others read the layer before


def write(layers: dict[str, Layer]) -> bytes:
    """The network: two branches are added, and the mean of the sum over its cells is read by the last layer."""
    lines, weights, before = [], dict[str, Floats](), "x"
    for name, layer in layers.items():
        if name == "x2":
            lines.append("sum = Add(n2, n3)")
        if name == "logits":
            lines += ["mean = GlobalAveragePool(x2)", "flat = Flatten(mean)"]
        text, arrays = layer.onnx(READS.get(name, before), name)
        lines.append(text)
        weights |= arrays
        before = name
    proto = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["": 17]>
        net (float[N, 3, 8, 8] x) => (float[N, {CLASSES}] logits) {{ {" ".join(lines)} }}"""
    )
    for name, array in weights.items():
        proto.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    return bytes(proto.SerializeToString())


def residual_twin(layers: dict[str, Layer], x: Floats) -> tuple[Floats, float, float]:
    """The relevance of the image, what biases absorb, and the score."""
    constants, values = Constants(), {"x": x.astype(float)}
    before = "x"
    for name, layer in layers.items():
        if name == "x2":
            values["sum"] = values["n2"] + values["n3"]
        if name == "logits":
            values["flat"] = values["x2"].mean(axis=(1, 2))
        values[name] = layer.forward(values[READS.get(name, before)])
        before = name

    def conv(number: int, source: str, r: Floats) -> Floats:
        norm, is_first = layers[f"n{number}"], number == 0
        assert isinstance(norm, Norm)
        return relevance(
            layers[f"c{number}"], norm, values[source], r, constants, is_first=is_first
        )

    linear, score = layers["logits"], values["logits"][TARGET]
    assert isinstance(linear, Linear)
    r = np.eye(CLASSES)[TARGET] * score
    r = mean_rule(values["x2"], epsilon_rule(linear, values["flat"], r, constants))
    body, side = sum_rule(values["n2"], values["n3"], r)
    r = conv(1, "x0", conv(2, "x1", body)) + conv(3, "x0", side)
    return conv(0, "x", r), constants.total, score


def test_lrp_of_residual_network_equals_twin() -> None:
    layers = residual()
    explanation = onnxcam.Explainer(write(layers), "lrp", device="cpu", cache=False)(X, TARGET)
    twins = [residual_twin(layers, x) for x in X]
    assert_close(explanation.attributions, np.stack([relevances for relevances, _, _ in twins]))
    for facts, (relevances, absorbed, score) in zip(explanation.facts, twins, strict=True):
        assert facts["absorbed"] == pytest.approx(absorbed, rel=1e-4)
        assert relevances.sum() + absorbed == pytest.approx(score, rel=1e-3)  # epsilon
        assert facts["completeness_gap"] < 1e-3


@pytest.mark.parametrize("read", ["token", "mean"])
def test_relevance_of_transformer_is_conserved(read: str) -> None:
    images = random_images(2, (3, 4, 6))
    explainer = onnxcam.Explainer(Vit(read=read).content(), "lrp", device="cpu", cache=False)
    for target in (1, "2-3", "not 0"):
        for facts in explainer(images, target).facts:
            assert facts["completeness_gap"] < 1e-3


def test_absorbed_relevance_is_that_of_each_image() -> None:
    together = explain("lrp", NETS["curved"])
    explainer = onnxcam.Explainer(NETS["curved"].content(), "lrp", device="cpu", cache=False)
    for x, facts in zip(X, together.facts, strict=True):
        alone = explainer(x, TARGET).facts[0]["absorbed"]
        assert alone == pytest.approx(facts["absorbed"], rel=1e-4)


BATCH_SECOND = """<ir_version: 9, opset_import: ["": 17]>
    net (float[N, 3, 4, 4] x) => (float[N, 2] logits) <float[3, 5] a, float[5] b, float[80, 2] c> {
    rows = Constant<value_ints = [0, 3, 16]>() flat = Reshape(x, rows)
    tokens = Transpose<perm = [2, 0, 1]>(flat) first = MatMul(tokens, a) active = Tanh(first)
    shifted = Add(active, b) scaled = Sigmoid(shifted) sum = Add(scaled, shifted)
    back = Transpose<perm = [1, 0, 2]>(sum) columns = Constant<value_ints = [0, 80]>()
    features = Reshape(back, columns) logits = MatMul(features, c) }"""


def test_absorbed_relevance_of_tokens_before_images_is_that_of_each_image() -> None:
    """(tokens, images, channels), as in some transformers."""
    proto, random = onnx.parser.parse_model(BATCH_SECOND), np.random.default_rng(0)
    for name, shape in {"a": (3, 5), "b": (5,), "c": (80, 2)}.items():
        array = random.normal(size=shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    images = random_images(3, (3, 4, 4))
    explainer = onnxcam.Explainer(proto.SerializeToString(), "lrp", device="cpu", cache=False)
    facts = explainer(images, 1).facts
    assert max(row["completeness_gap"] for row in facts) < 1e-4
    assert len({round(row["absorbed"], 3) for row in facts}) == 3
