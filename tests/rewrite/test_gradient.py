"""Models that return gradients: their inputs and outputs, their errors, and what they leave alone."""

import numpy as np
import onnx
import pytest
from onnx import parser

from onnxcam.autodiff.rules import DEFAULT
from onnxcam.errors import MissingRuleError, ModelError, UnknownNameError
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.rewrite.gradient import SEED, augment, gradient
from onnxcam.rewrite.sampled_outputs import add_moments
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
    return [each.name for each in model.graph.inputs], [each.name for each in model.graph.outputs]


def test_inputs_and_outputs(model: Model) -> None:
    made = gradient(model, ["c", "image"], "pooled")
    assert names(made) == (
        ["image", SEED],
        ["probabilities", "pooled", "c", "image", "gradient/c", "gradient/image"],
    )
    seed = made.graph.inputs[1]
    assert (seed.shape, seed.dtype) == (["N", 3], np.float32)
    assert_valid(made.proto())


def test_augment_names_activations(model: Model) -> None:
    made = augment(model, ["r"], "pooled")
    assert names(made)[1] == ["probabilities", "pooled", "gradient/r", "activation/r"]
    assert_valid(made.proto())
    feed = {"image": numbers(2, 2, 4, 4), SEED: np.ones((2, 3), np.float32)}
    found = run(made.proto(), feed, ["activation/r", "gradient/r"])
    whole = run(gradient(model, ["r"], "pooled").proto(), feed, ["r", "gradient/r"])
    np.testing.assert_array_equal(found, whole)


def test_a_tensor_that_is_read_twice_gets_both_cotangents(model: Model) -> None:
    """y = 2 r r: the mean over 16 cells has the gradient 4 r / 16."""
    made = gradient(model, ["r"], "pooled")
    seed = numbers(2, 3, seed=4)
    r, g = run(made.proto(), {"image": numbers(2, 2, 4, 4), SEED: seed}, ["r", "gradient/r"])
    np.testing.assert_allclose(g, seed[:, :, None, None] * r / 4, rtol=1e-6)


def test_the_score_by_itself(model: Model) -> None:
    made = gradient(model, ["pooled", "c"], "pooled")
    seed = numbers(1, 3, seed=4)
    found = run(made.proto(), {"image": numbers(1, 2, 4, 4), SEED: seed}, ["gradient/pooled"])
    np.testing.assert_array_equal(found[0], seed)
    assert_valid(made.proto())


def test_pictures_do_not_mix(model: Model) -> None:
    """The gradient of a batch is that of each picture alone."""
    proto = gradient(model, ["image"], "probabilities").proto()
    images, seeds = numbers(3, 2, 4, 4), numbers(3, 3, seed=4)
    together = run(proto, {"image": images, SEED: seeds}, ["gradient/image"])[0]
    for i in range(3):
        alone = run(proto, {"image": images[i : i + 1], SEED: seeds[i : i + 1]}, ["gradient/image"])
        np.testing.assert_allclose(together[i : i + 1], alone[0], rtol=1e-5, atol=1e-8)


def test_the_model_is_left_as_it_was(model: Model) -> None:
    before = model.bytes()
    gradient(model, ["c", "image"], "pooled")
    augment(model, ["r"], "pooled")
    assert model.bytes() == before


def test_the_outputs_of_the_model_stay_the_same(model: Model) -> None:
    feed = {"image": numbers(2, 2, 4, 4), SEED: np.ones((2, 3), np.float32)}
    plain = run(model.proto(), feed, ["probabilities"])
    made = run(gradient(model, ["image"], "pooled").proto(), feed, ["probabilities"])
    np.testing.assert_array_equal(plain, made)


def test_the_model_is_raised_only_where_a_rule_needs_it() -> None:
    text = """<ir_version: 6, opset_import: ["" : 12]>
    net (float[1, 2, 6, 6] x) => (float[1, 2, 2, 2] y) {{
        y = {op}<kernel_shape = [3, 3], strides = [2, 2]>(x)
    }}"""
    old = load(parser.parse_model(text.format(op="AveragePool")))
    assert gradient(old, ["x"], "y").opset == 12
    new = gradient(load(parser.parse_model(text.format(op="MaxPool"))), ["x"], "y")
    assert new.opset == 16
    assert_valid(new.proto())


def test_every_operator_without_a_rule_is_told_at_once(model: Model) -> None:
    few = DEFAULT.__class__({k: v for k, v in DEFAULT.items() if k not in ("Relu", "ReduceMean")})
    with pytest.raises(MissingRuleError, match="Relu x1") as caught:
        gradient(model, ["image"], "probabilities", few)
    assert set(caught.value.operators) == {"Relu", "ReduceMean"}
    gradient(model, ["pooled"], "probabilities", few)  # they are not on this path


def test_an_unknown_tensor_is_answered_with_a_close_one(model: Model) -> None:
    with pytest.raises(UnknownNameError, match="did you mean pooled"):
        gradient(model, ["image"], "poled")
    with pytest.raises(UnknownNameError, match="'imgae'"):
        gradient(model, ["imgae"], "pooled")


def test_a_tensor_behind_the_score_is_refused(model: Model) -> None:
    with pytest.raises(ModelError, match="nothing flows from 'r' back to 'pooled'"):
        gradient(model, ["pooled"], "r")


def test_a_tensor_named_seed_is_refused() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[2] seed) => (float[2] y) { y = Relu(seed) }"""
    with pytest.raises(ModelError, match="reserved"):
        gradient(load(parser.parse_model(text)), ["seed"], "y")


@pytest.mark.parametrize("name", ["gradient/h", "activation/h", "moment2/h"])
@pytest.mark.parametrize("where", ["x", "k", "y"])
def test_tensors_named_as_outputs_that_are_added(name: str, where: str) -> None:
    """Two tensors of one name are no model, and the wrong one would be read."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 3] x) => (float[N, 3] y) { h = Exp(x) k = Sin(h) l = Exp(k) y = Sin(l) }"""
    taken = load(parser.parse_model(text))
    taken.graph.tensors()[where].name = name
    of = name if where == "y" else "y"
    with pytest.raises(
        ModelError, match=f"already has a tensor named '{name}', which is reserved; rename it"
    ):
        add_moments(augment(taken, ["h"], of).graph, ["h"])


def test_a_tensor_asked_for_twice_comes_once(model: Model) -> None:
    made = gradient(model, ["c", "c"], "pooled")
    assert names(made)[1].count("gradient/c") == 1
    assert_valid(made.proto())
