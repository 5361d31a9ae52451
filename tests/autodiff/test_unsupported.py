"""No operator is forgotten, and what blocks a gradient is named, with the reason and a hint."""

import numpy as np
import onnx
import pytest
from onnx import defs, parser

from onnxcam.autodiff.rules import DEFAULT
from onnxcam.autodiff.unsupported import UNSUPPORTED, ZERO_GRADIENT
from onnxcam.errors import MissingRuleError, ModelError
from onnxcam.model.load import load
from onnxcam.passes.expand_functions import has_function_body
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import assert_valid, run

NEWEST = defs.onnx_opset_version()
HEAD = '<ir_version: 10, opset_import: ["" : 17]> net '


def operators() -> set[str]:
    return {schema.name for schema in defs.get_all_schemas() if not schema.domain}


def test_tables_cover_every_operator() -> None:
    listed = {op.rpartition("::")[2] for op in DEFAULT} | UNSUPPORTED.keys() | ZERO_GRADIENT.keys()
    assert {op for op in operators() - listed if not has_function_body(op, NEWEST)} == set()


def test_tables_are_disjoint() -> None:
    differentiated = {op for op, rule in DEFAULT.items() if rule.functions}
    assert differentiated & UNSUPPORTED.keys() == set(), "has a rule: delete its row in UNSUPPORTED"
    assert differentiated & ZERO_GRADIENT.keys() == set(), (
        "has a rule, but TRAITS says zero_gradient"
    )
    assert UNSUPPORTED.keys() & ZERO_GRADIENT.keys() == set()
    assert (UNSUPPORTED.keys() | ZERO_GRADIENT.keys()) <= operators()


CONTROL = {
    "Loop": """(float[4] x) => (float[4] y) {
        count = Constant<value_int = 3>()
        go = Constant<value = bool {1}>()
        y = Loop <body = once (int64 i, bool c, float[4] a) => (bool d, float[4] b) {
            d = Identity(c)
            b = Tanh(a)
        }>(count, go, x)
    }""",
    "Scan": """(float[2, 4] x) => (float[2, 4] y) {
        y = Scan<num_scan_inputs = 1, body = once (float[4] a) => (float[4] b) { b = Tanh(a) }>(x)
    }""",
    "If": """(float[4] x, bool c) => (float[4] y) {
        y = If <
            then_branch = yes () => (float[4] a) { a = Tanh(x) },
            else_branch = no () => (float[4] b) { b = Neg(x) }
        > (c)
    }""",
}


@pytest.mark.parametrize("op", CONTROL)
def test_control_flow_is_refused_with_hint(op: str) -> None:
    model = load(parser.parse_model(HEAD + CONTROL[op]))
    with pytest.raises(
        MissingRuleError, match=rf"rule: {op} \(.*; {op} {UNSUPPORTED[op]}; choose"
    ) as caught:
        gradient(model, ["x"], "y")
    assert caught.value.operators.keys() == caught.value.reasons.keys() == {op}


ONE = "one = Constant<value_ints = [1]>()\n"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("k = ArgMax(h)  y = Cast<to = 1>(k)", "ArgMax (k) returns indices"),
        ("k = Greater(h, h)  y = Cast<to = 1>(k)", "Greater (k) returns truth values"),
        ("k = Round(h)  y = Neg(k)", "Round (k) is a step function, flat"),
        ("k = Cast<to = 7>(h)  y = Cast<to = 1>(k)", "Cast (k) passes on no float values"),
        ("v, k = TopK(h, one)  y = Cast<to = 1>(k)", "TopK (v) passes on no float values"),
        (
            "k = Ceil(h)  l = Ceil(h)  y = Add(k, l)",
            "Ceil (k) is a step function, flat between its steps (and 1",
        ),
    ],
)
def test_blocking_operator_is_named(text: str, where: str) -> None:
    text = text.replace("  ", "\n    ")
    model = load(
        parser.parse_model(f"{HEAD}(float[2, 3] x) => (float y) {{ h = Tanh(x)\n{ONE}{text} }}")
    )
    with pytest.raises(ModelError, match="no gradient reaches 'x' from 'y': ") as caught:
        gradient(model, ["x"], "y")
    assert where in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sizes_are_not_named_as_blocking() -> None:
    text = "(float[N] x, float[N] z) => (float[M] y) { s = Shape(x)\n y = Expand(z, s) }"
    with pytest.raises(ModelError, match="no gradient reaches 'x' from 'y'; choose a tensor"):
        gradient(load(parser.parse_model(HEAD + text)), ["x"], "y")


def test_loop_beside_gradient_path_is_unchanged() -> None:
    """As in detectors: the outputs of the loop are passed on, and need no derivative."""
    text = """(float[4] x) => (float[4] y, float[4] far, int64[P, 3] kept) {
        h = Tanh(x)
        count = Constant<value_int = 3>()
        go = Constant<value = bool {1}>()
        far = Loop <body = once (int64 i, bool c, float[4] a) => (bool d, float[4] b) {
            d = Identity(c)
            b = Mul(a, h)
        }>(count, go, h)
        boxes = Constant<value = float[1, 2, 4] {0, 0, 1, 1, 0, 0, 2, 2}>()
        shape = Constant<value_ints = [1, 1, 2]>()
        start = Constant<value_ints = [0]>()
        end = Constant<value_ints = [2]>()
        two = Slice(h, start, end)
        scores = Reshape(two, shape)
        most = Constant<value_int = 1>()
        kept = NonMaxSuppression(boxes, scores, most)
        y = Mul(h, h)
    }"""
    proto = parser.parse_model(HEAD + text)
    augmented = gradient(load(proto), ["x"], "y").proto()
    assert_valid(augmented)
    x = np.array([0.2, -0.4, 0.6, 0.1], np.float32)
    far, selected, g = run(
        augmented, {"x": x, SEED: np.ones(4, np.float32)}, ["far", "kept", "gradient/x"]
    )
    np.testing.assert_allclose(g, 2 * np.tanh(x) * (1 - np.tanh(x) ** 2), rtol=1e-6)
    plain = run(proto, {"x": x}, ["far", "kept"])
    np.testing.assert_array_equal(far, plain[0])
    np.testing.assert_array_equal(selected, plain[1])


def test_branch_beside_gradient_path_is_unchanged() -> None:
    text = """(float[4] x, bool c) => (float[4] y, float[4] z) {
        h = Tanh(x)
        z = If <
            then_branch = yes () => (float[4] a) { a = Neg(h) },
            else_branch = no () => (float[4] b) { b = Identity(h) }
        > (c)
        y = Mul(h, h)
    }"""
    augmented = gradient(load(parser.parse_model(HEAD + text)), ["x"], "y").proto()
    x = np.array([0.2, -0.4, 0.6, 0.1], np.float32)
    feed = {"x": x, "c": np.array(True), SEED: np.ones(4, np.float32)}
    z, g = run(augmented, feed, ["z", "gradient/x"])
    np.testing.assert_allclose(z, -np.tanh(x), rtol=1e-6)
    np.testing.assert_allclose(g, 2 * np.tanh(x) * (1 - np.tanh(x) ** 2), rtol=1e-6)
    assert onnx.checker.check_model(augmented, full_check=True) is None
