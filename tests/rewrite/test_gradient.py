"""Models that return gradients: inputs and outputs, errors, and what stays unchanged."""

import numpy as np
import onnx
import pytest
from onnx import parser

from onnxcam.autodiff.rules import DEFAULT
from onnxcam.errors import MissingRuleError, ModelError, UnknownNameError
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.rewrite.gradient import SEED, augment, gradient
from tests.autodiff.support.check import assert_valid, numbers, run

NET = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 2, 4, 4] image) => (float[N, 3] probabilities)
<float[3, 2, 3, 3] w> {
    c = Conv<pads = [1, 1, 1, 1]>(image, w)
    r = Relu(c)
    doubled = Add(r, r)
    squared = Mul(doubled, r)
    pooled = ReduceMean<axes = [2, 3], keepdims = 0>(squared)
    probabilities = Softmax(pooled)
}"""


@pytest.fixture
def model() -> Model:
    proto = parser.parse_model(NET)
    del proto.graph.initializer[:]
    weights = numbers(3, 2, 3, 3, seed=2)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    return load(proto)


def names(model: Model) -> tuple[list[str], list[str]]:
    return [tensor.name for tensor in model.graph.inputs], [
        tensor.name for tensor in model.graph.outputs
    ]


def test_gradient_model_has_documented_inputs_and_outputs(model: Model) -> None:
    augmented = gradient(model, ["c", "image"], "pooled")
    assert names(augmented) == (
        ["image", SEED],
        ["probabilities", "pooled", "c", "image", "gradient/c", "gradient/image"],
    )
    seed = augmented.graph.inputs[1]
    assert (seed.shape, seed.dtype) == (["N", 3], np.float32)
    assert_valid(augmented.proto())


def test_augment_names_activations(model: Model) -> None:
    augmented = augment(model, ["r"], "pooled")
    assert names(augmented)[1] == ["probabilities", "pooled", "gradient/r", "activation/r"]
    assert_valid(augmented.proto())
    feed = {"image": numbers(2, 2, 4, 4), SEED: np.ones((2, 3), np.float32)}
    actual = run(augmented.proto(), feed, ["activation/r", "gradient/r"])
    expected = run(gradient(model, ["r"], "pooled").proto(), feed, ["r", "gradient/r"])
    np.testing.assert_array_equal(actual, expected)


def test_tensor_with_two_readers_sums_cotangents(model: Model) -> None:
    """y = 2 r r: the mean over 16 cells has the gradient 4 r / 16."""
    augmented = gradient(model, ["r"], "pooled")
    seed = numbers(2, 3, seed=4)
    r, g = run(augmented.proto(), {"image": numbers(2, 2, 4, 4), SEED: seed}, ["r", "gradient/r"])
    np.testing.assert_allclose(g, seed[:, :, None, None] * r / 4, rtol=1e-6)


def test_gradient_of_score_is_seed(model: Model) -> None:
    augmented = gradient(model, ["pooled", "c"], "pooled")
    seed = numbers(1, 3, seed=4)
    gradients = run(
        augmented.proto(), {"image": numbers(1, 2, 4, 4), SEED: seed}, ["gradient/pooled"]
    )
    np.testing.assert_array_equal(gradients[0], seed)
    assert_valid(augmented.proto())


def test_images_of_batch_are_independent(model: Model) -> None:
    """The gradient of a batch is that of every image alone."""
    proto = gradient(model, ["image"], "probabilities").proto()
    images, seeds = numbers(3, 2, 4, 4), numbers(3, 3, seed=4)
    together = run(proto, {"image": images, SEED: seeds}, ["gradient/image"])[0]
    for i in range(3):
        alone = run(proto, {"image": images[i : i + 1], SEED: seeds[i : i + 1]}, ["gradient/image"])
        np.testing.assert_allclose(together[i : i + 1], alone[0], rtol=1e-5, atol=1e-8)


def test_gradient_does_not_change_model(model: Model) -> None:
    before = model.bytes()
    gradient(model, ["c", "image"], "pooled")
    augment(model, ["r"], "pooled")
    assert model.bytes() == before


def test_model_outputs_are_unchanged(model: Model) -> None:
    feed = {"image": numbers(2, 2, 4, 4), SEED: np.ones((2, 3), np.float32)}
    plain = run(model.proto(), feed, ["probabilities"])
    augmented = run(gradient(model, ["image"], "pooled").proto(), feed, ["probabilities"])
    np.testing.assert_array_equal(plain, augmented)


def test_opset_is_upgraded_only_if_rule_needs_it() -> None:
    text = """<ir_version: 6, opset_import: ["" : 12]>
    net (float[1, 2, 6, 6] x) => (float[1, 2, 2, 2] y) {{
        y = {op}<kernel_shape = [3, 3], strides = [2, 2]>(x)
    }}"""
    old = load(parser.parse_model(text.format(op="AveragePool")))
    assert gradient(old, ["x"], "y").opset == 12
    new = gradient(load(parser.parse_model(text.format(op="MaxPool"))), ["x"], "y")
    assert new.opset == 16
    assert_valid(new.proto())


def test_missing_rules_are_reported_together(model: Model) -> None:
    few = DEFAULT.__class__({k: v for k, v in DEFAULT.items() if k not in ("Relu", "ReduceMean")})
    with pytest.raises(MissingRuleError, match=r"rule: Relu \(") as caught:
        gradient(model, ["image"], "probabilities", few)
    assert set(caught.value.operators) == {"Relu", "ReduceMean"}
    gradient(model, ["pooled"], "probabilities", few)  # neither is on this path


def test_unknown_tensor_error_suggests_close_name(model: Model) -> None:
    with pytest.raises(UnknownNameError, match="did you mean pooled"):
        gradient(model, ["image"], "poled")
    with pytest.raises(UnknownNameError, match="'imgae'"):
        gradient(model, ["imgae"], "pooled")


def test_tensor_after_score_is_refused(model: Model) -> None:
    with pytest.raises(ModelError, match="no gradient reaches 'pooled' from 'r'"):
        gradient(model, ["pooled"], "r")


def test_tensor_named_seed_is_refused() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[2] seed) => (float[2] y) { y = Relu(seed) }"""
    with pytest.raises(ModelError, match="reserved"):
        gradient(load(parser.parse_model(text)), ["seed"], "y")


@pytest.mark.parametrize("name", ["gradient/h", "activation/h"])
@pytest.mark.parametrize("where", ["x", "k", "y"])
def test_tensor_with_reserved_name_is_refused(name: str, where: str) -> None:
    """With two tensors of the same name, the wrong one would be read."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 3] x) => (float[N, 3] y) { h = Exp(x) k = Sin(h) l = Exp(k) y = Sin(l) }"""
    occupied = load(parser.parse_model(text))
    occupied.graph.tensors()[where].name = name
    of = name if where == "y" else "y"
    with pytest.raises(
        ModelError, match=f"already has a tensor named '{name}', a reserved name; rename it"
    ):
        augment(occupied, ["h"], of)


def test_repeated_tensor_has_one_gradient(model: Model) -> None:
    augmented = gradient(model, ["c", "c"], "pooled")
    assert names(augmented)[1].count("gradient/c") == 1
    assert_valid(augmented.proto())
