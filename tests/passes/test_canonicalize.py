"""What `canonicalize` folds and drops; no output changes."""

from typing import Any

import numpy as np
import pytest
from onnx import parser

from onnxcam.arrays import Array
from onnxcam.model.load import load
from onnxcam.model.model import Model
from tests.autodiff.support.check import numbers, run

TORCHSCRIPT = """
    shape = Shape(x)
    zero = Constant<value = int64 {0}>()
    n = Gather<axis = 0>(shape, zero)
    at = Constant<value = int64[1] {0}>()
    first = Unsqueeze(n, at)
    others = Constant<value = int64[1] {-1}>()
    target = Concat<axis = 0>(first, others)
    y = Reshape(x, target)
"""
COMPUTED = """
    shape = Shape(x)
    c = Gather<axis = 0>(shape, one)
    h = Gather<axis = 0>(shape, two)
    both = Mul(c, h)
    wide = Cast<to = 7>(both)
    half = Div(wide, two)
    less = Sub(half, one)
    back = Add(less, one)
    target = Concat<axis = 0>(rest, back, two)
    y = Reshape(x, target)
"""
SHARED = """
    copy = Identity(w)
    second = Identity(copy)
    a = Mul(x, copy)
    b = Mul(x, second)
    y = Add(a, b)
"""
NOTHING = """
    a = Identity(x)
    b, mask = Dropout(a)
    y = Identity(b)
"""
BRANCH = """
    shape = Shape(x)
    c = Gather<axis = 0>(shape, one)
    same = Equal(c, one)
    a = Relu(x)
    picked = If (same) <
        then_branch = yes () => (float[N, 2, 2] p) { p = Neg(a) },
        else_branch = no () => (float[N, 2, 2] p) { q = Exp(a) p = Mul(q, a) }
    >
    y = Tanh(picked)
"""
GATHER_IN_ORDER = """
    all = Constant<value_ints = [-1]>()
    second = Gather<axis = 0>(x, one)
    flat = Reshape(second, all)
    y = Gather<axis = 0>(flat, order)
"""
NETS = {
    "torchscript": (TORCHSCRIPT, ["Shape", "Gather", "Unsqueeze", "Concat", "Reshape"]),
    "computed": (COMPUTED, ["Reshape"]),
    "shared": (SHARED, ["Mul", "Mul", "Add"]),
    "nothing": (NOTHING, ["Identity"]),
    "gather in order": (GATHER_IN_ORDER, ["Gather", "Reshape", "Reshape"]),
    "branch": (BRANCH, ["Relu", "Exp", "Mul", "Tanh"]),
}


def net(body: str, opset: int = 17) -> str:
    return f"""<ir_version: 8, opset_import: ["" : {opset}]>
    net (float[N, 2, 2] x) => (float[a, b, c] y)
    <float[2] w = {{2.0, -3.0}}, int64[1] one = {{1}}, int64[1] two = {{2}}, int64[1] rest = {{-1}},
    int64[1, 2, 2] order = {{0, 1, 2, 3}}> {{
        {body}
    }}"""


def rank_two(body: str) -> str:
    return net(body).replace("(float[a, b, c] y)", "(float[a, b] y)")


def outputs(model: Model, x: Array) -> Any:
    return run(model.proto(), {"x": x}, ["y"])[0]


@pytest.mark.parametrize("name", NETS)
def test_canonical_graph_has_fewer_nodes_and_the_same_outputs(name: str) -> None:
    body, operators = NETS[name]
    text = rank_two(body) if name == "torchscript" else net(body)
    proto = parser.parse_model(text)
    model = load(proto)
    assert [node.op for node in model.graph.nodes] == operators
    x = numbers(3, 2, 2)
    np.testing.assert_array_equal(outputs(model, x), run(proto, {"x": x}, ["y"])[0])


def test_reshape_to_computed_sizes_has_a_named_shape() -> None:
    model = load(parser.parse_model(rank_two(TORCHSCRIPT)))
    assert model.graph.tensors()["y"].shape == ["N", 4]


@pytest.mark.parametrize(
    ("target", "shape"),
    [
        ("-1, 1, 2, 3, 2", ["N", 1, 2, 3, 2]),
        ("-1, 6", ["2x[N]", 6]),
        ("0, -1", ["N", 12]),
        ("2, -1, 6", [2, "N", 6]),
        ("-1, 24", ["unk__0", 24]),
    ],
)
def test_reshape_of_named_sizes_leaves_what_the_others_do_not_take(
    target: str, shape: list[Any]
) -> None:
    text = f"""<ir_version: 9, opset_import: ["": 17]> n (float[N, 3, 4] x) => (float[M] y) {{
        target = Constant<value_ints = [{target}]>() reshaped = Reshape(x, target)
        all = Constant<value_ints = [-1]>() bent = Tanh(reshaped) y = Reshape(bent, all) }}"""
    assert load(parser.parse_model(text)).graph.tensors()["reshaped"].shape == shape


@pytest.mark.parametrize(
    ("rest", "shape"), [("-1, 6", ["N", 4, 6]), ("-1, 5", None), ("1, -1", ["N", 1, 24])]
)
def test_reshape_of_a_multiple_of_the_batch_leaves_a_number(rest: str, shape: list[Any]) -> None:
    """As of windows, whose number is a part of the batch until they are put together."""
    text = f"""<ir_version: 9, opset_import: ["": 17]> n (float[N, 24] x) => (float[A, B, C] y) {{
        windows = Constant<value_ints = [-1, 6]>() many = Reshape(x, windows)
        size = Shape<start = 0, end = 1>(x) rest = Constant<value_ints = [{rest}]>()
        target = Concat<axis = 0>(size, rest) bent = Tanh(many) y = Reshape(bent, target) }}"""
    inferred = load(parser.parse_model(text)).graph.tensors()["y"].shape
    assert inferred == shape if shape else not isinstance(inferred[1], int)


@pytest.mark.parametrize(("target", "shape"), [("-1, 1, 12", ["N", 1, 12]), ("0, 3, 5", [0, 3, 5])])
def test_reshape_that_allows_zeros_takes_them_as_sizes(target: str, shape: list[Any]) -> None:
    text = f"""<ir_version: 9, opset_import: ["": 17]> n (float[N, 3, 4] x) => (float[M] y) {{
        target = Constant<value_ints = [{target}]>() reshaped = Reshape<allowzero = 1>(x, target)
        all = Constant<value_ints = [-1]>() bent = Tanh(reshaped) y = Reshape(bent, all) }}"""
    assert load(parser.parse_model(text)).graph.tensors()["reshaped"].shape == shape


def test_computed_constants_are_folded() -> None:
    body = """
    two_w = Add(w, w)
    shape = Shape(two_w)
    ones = ConstantOfShape<value = float[1] {1.0}>(shape)
    sum = Add(two_w, ones)
    y = Mul(x, sum)
    """
    model = load(parser.parse_model(net(body)))
    assert [node.op for node in model.graph.nodes] == ["Mul"]
    x = numbers(3, 2, 2)
    np.testing.assert_allclose(outputs(model, x), x * np.array([5, -5], np.float32), rtol=1e-6)


def test_large_constant_is_not_folded() -> None:
    body = """
    shape = Constant<value = int64[2] {2000, 2000}>()
    big = ConstantOfShape(shape)
    s = ReduceSum<keepdims = 0>(big)
    y = Add(x, s)
    """
    assert "ConstantOfShape" in [
        node.op for node in load(parser.parse_model(net(body))).graph.nodes
    ]


def test_random_numbers_are_not_folded() -> None:
    body = "r = RandomNormal<shape = [2, 2]>() y = Add(x, r)"
    assert [node.op for node in load(parser.parse_model(net(body))).graph.nodes] == [
        "RandomNormal",
        "Add",
    ]


def test_constant_output_stays_an_output() -> None:
    text = net("y = Relu(x)").replace("(float[a, b, c] y)", "(float[a, b, c] y, float[2] z)")
    text = text.replace("y = Relu(x)", "y = Relu(x) z = Add(w, w)")
    z = run(load(parser.parse_model(text)).proto(), {"x": numbers(1, 2, 2)}, ["z"])[0]
    np.testing.assert_array_equal(z, [4, -6])


def test_dropout_with_a_mask_that_is_read_stays() -> None:
    body = "a, mask = Dropout(x) m = Cast<to = 1>(mask) y = Mul(a, m)"
    assert "Dropout" in [node.op for node in load(parser.parse_model(net(body))).graph.nodes]


def test_branches_with_the_same_names_are_inlined() -> None:
    branch = """
    {0} = If (yes) <
        then_branch = t () => (float[N, 2, 2] p) <float[1] k = {{{1}}}> {{ p = Mul(x, k) }},
        else_branch = e () => (float[N, 2, 2] p) {{ p = Neg(x) }}
    >"""
    body = branch.format("a", "2.0") + branch.format("b", "5.0") + " y = Add(a, b)"
    text = net(body).replace("int64[1] one", "bool yes = {1}, int64[1] one")
    model = load(parser.parse_model(text))
    assert [node.op for node in model.graph.nodes] == ["Mul", "Mul", "Add"]
    x = numbers(3, 2, 2)
    np.testing.assert_allclose(outputs(model, x), 7 * x, rtol=1e-6)
