"""Numbers that were divided by their Euclidean norm, in all forms, and those that were divided by others."""

import pytest

from onnxcam.heads.unit_length import before_normalization
from tests.model.support.texts import load_text

NUMBERS = """
    tiny = Constant<value_float = 1e-7>() two = Constant<value_float = 2.0>()
    one = Constant<value_float = 1.0>() half = Constant<value_float = 0.5>()
    root = Constant<value_float = -0.5>() last = Constant<value_ints = [-1]>()"""
SQUARES = "q = Mul(z, z) s = ReduceSum(q, last)"
UNIT = {
    "norm": "n = ReduceL2<axes = [-1]>(z) y = Div(z, n)",
    "norm, bounded": "n = ReduceL2<axes = [-1]>(z) c = Clip(n, tiny) y = Div(z, c)",
    "norm, repeated": """n = ReduceL2<axes = [-1]>(z) c = Max(n, tiny) k = Shape(z) e = Expand(c, k)
        y = Div(z, e)""",
    "norm, axis not kept": """n = ReduceL2<axes = [-1], keepdims = 0>(z) u = Unsqueeze(n, last)
        y = Div(z, u)""",
    "root of squares": f"{SQUARES} n = Sqrt(s) y = Div(z, n)",
    "root of powers": "q = Pow(z, two) s = ReduceSum(q, last) n = Sqrt(s) y = Div(z, n)",
    "root with an epsilon": f"{SQUARES} a = Add(s, tiny) n = Sqrt(a) y = Div(z, n)",
    "root of a sum of squares": "s = ReduceSumSquare<axes = [-1]>(z) n = Sqrt(s) y = Div(z, n)",
    "power of one half": f"{SQUARES} n = Pow(s, half) y = Div(z, n)",
    "inverse root": f"{SQUARES} m = Max(s, tiny) n = Sqrt(m) r = Reciprocal(n) y = Mul(z, r)",
    "one over the root": f"{SQUARES} n = Sqrt(s) r = Div(one, n) y = Mul(r, z)",
    "power of minus one half": f"{SQUARES} r = Pow(s, root) y = Mul(z, r)",
    "operator": "y = LpNormalization<p = 2, axis = -1>(z)",
    "then flattened": "n = ReduceL2<axes = [-1]>(z) d = Div(z, n) y = Flatten(d)",
}
OTHERS = {
    "scores": "y = Identity(z)",
    "standardized": """m = ReduceMean<axes = [-1]>(z) d = Sub(z, m) q = Mul(d, d)
        v = ReduceMean<axes = [-1]>(q) a = Add(v, tiny) n = Sqrt(a) y = Div(d, n)""",
    "norm of another tensor": "a = Abs(z) n = ReduceL2<axes = [-1]>(a) y = Div(z, n)",
    "sum of magnitudes": "n = ReduceL1<axes = [-1]>(z) y = Div(z, n)",
    "sum of magnitudes, operator": "y = LpNormalization<p = 1, axis = -1>(z)",
    "root of a sum": "a = Abs(z) s = ReduceSum(a, last) n = Sqrt(s) y = Div(z, n)",
    "times its norm": f"{SQUARES} r = Pow(s, root) y = Div(z, r)",
    "divided by a number": "y = Div(z, two)",
}


def output_of(body: str) -> tuple[object, object]:
    text = f"(float[N, 5] x) => (float[N, 5] y) {{ {NUMBERS} z = Selu(x) {body} }}"
    graph = load_text(text).graph
    return before_normalization(graph.outputs[0]), graph.tensors()["z"]


@pytest.mark.parametrize("name", UNIT)
def test_tensor_before_its_norm_is_found(name: str) -> None:
    before, expected = output_of(UNIT[name])
    assert before is expected


@pytest.mark.parametrize("name", OTHERS)
def test_other_quotients_are_not_of_unit_length(name: str) -> None:
    assert output_of(OTHERS[name])[0] is None
