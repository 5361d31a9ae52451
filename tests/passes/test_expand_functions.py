"""Operators replaced by the function bodies that define them: no output changes."""

from typing import Any

import numpy as np
import pytest
from onnx import parser

from onnxcam.autodiff.rules import DEFAULT
from onnxcam.errors import MissingRuleError
from onnxcam.model.load import load
from onnxcam.passes.expand_functions import expand_functions, has_function_body
from onnxcam.rewrite.gradient import expand_operators_without_rules, gradient
from tests.autodiff.support.check import assert_valid, numbers, run

HEAD = '<ir_version: 11, opset_import: ["" : {opset}]> net '
NETS = {
    "Attention": (
        23,
        "(float[N, 4, S, 6] x) => (float[N, 4, S, 6] y) { a = Relu(x)  y = Attention(a, x, x) }",
    ),
    "Relu": (23, "(float[N, 4, S, 6] x) => (float[N, 4, S, 6] y) { y = Relu(x) }"),
    "CenterCropPad": (
        18,
        """(float[N, 4, S, 6] x) => (float[A, B, C, D] y) <int64[2] size = {3, 9}>
        { y = CenterCropPad<axes = [1, 3]>(x, size) }""",
    ),
    "MeanVarianceNormalization": (
        13,
        "(float[N, 4, S, 6] x) => (float[N, 4, S, 6] y) { y = MeanVarianceNormalization(x) }",
    ),
    "GroupNormalization": (
        21,
        """(float[N, 4, S, 6] x) => (float[N, 4, S, 6] y)
        <float[4] s = {1, 2, 3, 4}, float[4] b = {5, 6, 7, 8}>
        { y = GroupNormalization<num_groups = 2>(x, s, b) }""",
    ),
}


def parse_net(operator: str) -> Any:
    opset, text = NETS[operator]
    return parser.parse_model(HEAD.format(opset=opset) + text)


@pytest.mark.parametrize("operator", NETS)
def test_outputs_are_unchanged(operator: str) -> None:
    proto, feed = parse_net(operator), {"x": numbers(2, 4, 3, 6)}
    model = load(proto)
    assert expand_functions(model.graph, list(model.graph.nodes))
    assert operator not in {node.op for node in model.graph.nodes}
    assert_valid(model.proto())
    before, after = (run(version, feed, ["y"])[0] for version in (proto, model.proto()))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


def test_only_operators_between_layer_and_score_are_expanded() -> None:
    text = HEAD.format(opset=23) + (
        "(float[N, 2, S, 6] x) => (float[N, 2, S, 6] y, float[N, 2, S, 6] aside) {"
        " h = Relu(x)  k = Attention(h, h, h)  y = Tanh(k)  aside = Attention(x, x, x) }"
    )
    model = load(parser.parse_model(text))
    attentions = [
        node.outputs[0].name
        for node in expand_operators_without_rules(model, ["h"], "y", DEFAULT).graph.nodes
        if node.op == "Attention"
    ]
    assert attentions == ["aside"]
    assert [node.op for node in model.graph.nodes].count("Attention") == 2  # a copy was changed
    after = expand_operators_without_rules(model, ["k"], "y", DEFAULT)
    assert [node.op for node in after.graph.nodes].count("Attention") == 2


def test_tensors_keep_their_names() -> None:
    """Inner tensors of two bodies have different names; the output of a body exists even if it is a copy."""
    text = HEAD.format(opset=23) + (
        "(float[N, 2, S, 6] x) => (float[N, 2, S, 6] y)"
        "{ a = Attention(x, x, x)  b = Attention(a, a, a)  y = Tanh(b) }"
    )
    proto = parser.parse_model(text)
    feed = {"x": numbers(1, 2, 3, 6)}
    proto_of_gradient = gradient(load(proto), ["x", "a", "b"], "y").proto()
    names = [name for node in proto_of_gradient.graph.node for name in node.output]
    assert len(names) == len(set(names))
    seed = numbers(1, 2, 3, 6, seed=1)
    y, b = run(proto_of_gradient, {**feed, "seed": seed}, ["y", "gradient/b"])
    np.testing.assert_allclose(b, seed * (1 - y**2), rtol=1e-5, atol=1e-6)


def test_operator_without_function_body_stays_and_is_named() -> None:
    assert not has_function_body("Det", 17)
    assert not has_function_body("DynamicQuantizeLinear", 17)
    assert not has_function_body("Attention", 22)
    text = HEAD.format(opset=17) + "(float[N, 3, 3] x) => (float[N] y) { y = Det(x) }"
    model = load(parser.parse_model(text))
    assert not expand_functions(model.graph, list(model.graph.nodes))
    with pytest.raises(MissingRuleError, match="Det"):
        gradient(model, ["x"], "y", DEFAULT | {})
