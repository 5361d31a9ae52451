"""The last Softmax or Sigmoid, also written out in smaller operators, and mixtures of probabilities."""

from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.heads.dense_score import ensure_class_scores
from onnxcam.heads.mixed_probabilities import mixed_logits
from onnxcam.heads.score import find_score
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from tests.model.support.texts import load_text
from tests.support.limits import run_limited
from tests.support.nets import Net, random_images

NUMBERS = """
    one = Constant<value_float = 1.0>() two = Constant<value_float = 2.0>()
    half = Constant<value_float = 0.5>()
    tiny = Constant<value_float = 1e-7>() minus = Constant<value_float = -1.0>()
    zero = Constant<value_float = 0.0>() last = Constant<value_ints = [-1]>()"""
TOP = "m = ReduceMax<axes = [-1]>(z) d = Sub(z, m) e = Exp(d)"
SUM = "s = ReduceSum(e, last)"
ENDS = {  # operators from the logits z to the output y
    "exp by sum": f"e = Exp(z) {SUM} y = Div(e, s)",
    "less the maximum": f"{TOP} {SUM} y = Div(e, s)",
    "by a reciprocal": f"{TOP} {SUM} r = Reciprocal(s) y = Mul(r, e)",
    "with an epsilon": f"{TOP} {SUM} t = Add(s, tiny) y = Div(e, t)",
    "bounded below": f"{TOP} {SUM} t = Max(s, tiny) y = Div(e, t)",
    "by a power": f"{TOP} {SUM} r = Pow(s, minus) y = Mul(e, r)",
    "by one over": f"{TOP} {SUM} r = Div(one, s) y = Mul(e, r)",
    "by the mean": f"{TOP} s = ReduceMean<axes = [-1]>(e) y = Div(e, s)",
    "axis not kept": f"{TOP} s = ReduceSum<keepdims = 0>(e, last) u = Unsqueeze(s, last) y = Div(e, u)",
    "sum of several": f"{TOP} {SUM} t = Sum(s, tiny) y = Div(e, t)",
    "by an Einsum": f"""{TOP} s = Einsum<equation = "nc->n">(e) u = Unsqueeze(s, last) y = Div(e, u)""",
    "guarded": "p = Softmax(z) b = IsNaN(p) y = Where(b, zero, p)",
    "guarded by Not": "p = Softmax(z) b = IsInf(p) n = Not(b) y = Where(n, p, zero)",
    "by its length": f"{TOP} y = LpNormalization<p = 1>(e)",
    "temperature": f"h = Mul(z, two) {TOP.replace('z', 'h')} {SUM} y = Div(e, s)",
    "powers of two": "e = Pow(two, z) s = ReduceSum(e, last) y = Div(e, s)",
    "less the maximum, then Softmax": "m = ReduceMax<axes = [-1]>(z) d = Sub(z, m) y = Softmax(d)",
    "scaled": "p = Softmax(z) y = Mul(p, two)",
    "percent": "p = Softmax(z) y = Div(p, tiny)",
    "clipped": "p = Softmax(z) y = Clip(p, tiny, one)",
    "shifted and scaled": "p = Softmax(z) q = Sub(p, half) y = Mul(q, two)",
    "its logarithm": "p = Softmax(z) q = Add(p, tiny) y = Log(q)",
    "exp of LogSoftmax": "l = LogSoftmax(z) y = Exp(l)",
    "its root": "p = Softmax(z) y = Sqrt(p)",
    "less log sum exp": "l = ReduceLogSumExp<axes = [-1]>(z) y = Sub(z, l)",
    "less the maximum and log sum exp": f"{TOP} {SUM} l = Log(s) y = Sub(d, l)",
    "the maximum added again": f"{TOP} {SUM} l = Log(s) k = Add(l, m) y = Sub(z, k)",
    "exp of that": f"{TOP} {SUM} l = Log(s) g = Sub(d, l) y = Exp(g)",
    "sigmoid": "n = Neg(z) e = Exp(n) t = Add(e, one) y = Div(one, t)",
    "sigmoid, reciprocal": "n = Mul(z, minus) e = Exp(n) t = Add(one, e) y = Reciprocal(t)",
    "sigmoid, power": "n = Sub(zero, z) e = Exp(n) t = Add(one, e) y = Pow(t, minus)",
    "sigmoid, exp over": "e = Exp(z) t = Add(one, e) y = Div(e, t)",
    "sigmoid, tanh": "h = Mul(z, half) g = Tanh(h) t = Add(g, one) y = Mul(t, half)",
    "one less the other side": "n = Neg(z) p = Sigmoid(n) y = Sub(one, p)",
    "sigmoid, one less the other side": "e = Exp(z) t = Add(e, one) r = Div(one, t) y = Sub(one, r)",
    "log sigmoid by softplus": "n = Neg(z) q = Softplus(n) y = Neg(q)",
    "sigmoid by softplus": "n = Neg(z) q = Softplus(n) k = Neg(q) y = Exp(k)",
    "sharpened": "p = Softmax(z) q = Pow(p, two) y = Mul(q, two)",
    "sigmoid, scaled": "p = Sigmoid(z) q = Mul(p, two) y = Sub(q, one)",
}
MULTIPLES = {"temperature", "sigmoid, tanh"}  # a multiple of z is found, which is as good


def text(end: str) -> str:
    return f"(float[N, 5] x) => (float[N, 5] y) {{ {NUMBERS} z = Selu(x) {end} }}"


@pytest.mark.parametrize("name", ENDS)
def test_logits_of_written_out_activation_are_found(name: str) -> None:
    """They order the classes as the model's scores do, and their name is z."""
    model = load_text(text(ENDS[name]))
    score = find_score(model)
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    model.graph.outputs.append(model.graph.tensors()[score.logits])
    y, logits = Session(model.bytes(), Device("cpu"), threads=1).run(["y", score.logits], {"x": x})
    np.testing.assert_array_equal(np.argsort(logits, axis=1), np.argsort(y, axis=1))
    assert score.output_activation in ("Softmax", "LogSoftmax", "Sigmoid")
    assert ("igmoid" in str(score.output_activation)) is (
        "igmoid" in name or name == "one less the other side"
    )
    assert score.logits == "z" or name in MULTIPLES
    assert not score.probability


EXACT = {  # the activation before whatever follows it is one operator on z
    *("scaled", "percent", "shifted and scaled", "its logarithm", "its root", "sharpened"),
    *("sigmoid, scaled", "guarded", "guarded by Not"),
}


@pytest.mark.parametrize("name", ENDS)
def test_probabilities_order_classes_as_output_does(name: str) -> None:
    """Also where the activation has the probability of the other side."""
    model = load_text(text(ENDS[name]))
    score = find_score(model)
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    if score.output != "y":
        model.graph.outputs.append(model.graph.tensors()[score.output])
    y, p = Session(model.bytes(), Device("cpu"), threads=1).run(["y", score.output], {"x": x})
    np.testing.assert_array_equal(np.argsort(p, axis=1), np.argsort(y, axis=1))


@pytest.mark.parametrize("name", ENDS)
def test_exact_activation_is_function_of_logits(name: str) -> None:
    model = load_text(text(ENDS[name]))
    score = find_score(model)
    assert score.exact_activation is (name in EXACT)
    if not score.exact_activation:
        return
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    model.graph.outputs += [model.graph.tensors()[name] for name in (score.output, score.logits)]
    names = [score.output, score.logits]
    p, z = Session(model.bytes(), Device("cpu"), threads=1).run(names, {"x": x})
    exponentials = np.exp(z)
    total = exponentials.sum(axis=1, keepdims=True)
    expected = exponentials / (1 + exponentials if score.output_activation == "Sigmoid" else total)
    np.testing.assert_allclose(np.asarray(p, np.float64), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["scaled", "shifted and scaled", "its logarithm", "exp by sum"])
def test_probability_of_rescaled_softmax_sums_to_one(name: str) -> None:
    model = load_text(text(ENDS[name]))
    score = find_score(model)
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    model.graph.outputs.append(model.graph.tensors()[score.output])
    (p,) = Session(model.bytes(), Device("cpu"), threads=1).run([score.output], {"x": x})
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "end",
    [
        "g = Sigmoid(z) y = Mul(z, g)",  # a gate
        "m = ReduceMean<axes = [-1]>(z) y = Sub(z, m)",  # centered
        "e = Exp(z) y = Mul(e, two)",  # not normalized
        "e = Exp(z) s = ReduceSum(e, last) y = Mul(e, s)",
        "t = Tanh(z) y = Mul(t, two)",  # between -2 and 2
        "q = Softplus(z) y = Neg(q)",  # the evidence for -z, which is no tensor
        "e = Exp(z) t = Add(e, one) y = Div(one, t)",  # the same
        "q = Softplus(z) y = Mul(q, two)",
        "b = Greater(z, zero) y = Where(b, zero, z)",
        "n = Abs(z) y = Add(n, one)",
        "e = Exp(z) t = Add(one, e) y = Log(t)",  # softplus
        "c = Clip(z, zero) y = Mul(c, two)",
    ],
)
def test_other_scores_are_not_changed(end: str) -> None:
    model = load_text(text(end))
    assert find_score(model).logits == "y"
    assert not find_score(model).probability
    assert ensure_class_scores(model)[0].notices == ()


@pytest.mark.parametrize(
    ("end", "inner"),
    [
        ("a = Softmax(z) n = Neg(z) b = Softmax(n) s = Add(a, b) y = Mul(s, half)", ["z", "n"]),
        ("a = Sigmoid(z) y = Mul(a, a)", ["z"]),
        ("p = Softmax(z) y = Sub(one, p)", ["z"]),
        ("a = Sigmoid(z) y = Mul(a, minus)", ["z"]),
        ("y = HardSigmoid(z)", ["z"]),
        ("l = LogSoftmax(z) y = Pow(l, two)", ["z"]),  # the least likely class has the most
        ("p = Sigmoid(z) c = Sub(p, half) y = Pow(c, two)", ["z"]),  # rises on both sides
        ("y = Clip(z, zero, one)", ["z"]),
        ("p = Softmax(z) q = Mul(p, p) s = ReduceSum(q, last) y = Div(q, s)", ["z"]),
        (
            """a = Softmax(z) n = Neg(z) b = Sigmoid(n) u = Unsqueeze(a, last) v = Unsqueeze(b, last)
               c = Concat<axis = -1>(u, v) y = ReduceMean<axes = [-1], keepdims = 0>(c)""",
            ["z", "n"],
        ),
    ],
)
def test_mixed_probabilities_are_reported(end: str, inner: list[str]) -> None:
    model = load_text(text(end))
    assert mixed_logits(model.graph.tensors()["y"]) == inner
    scored, score = ensure_class_scores(model)
    assert score.probability
    assert "is a probability" in scored.notices[-1]
    assert f"--output NAME chooses scores before it ({', '.join(inner)})" in scored.notices[-1]
    for name in inner:
        assert find_score(model, name).logits == name


FOUR = "a0 = Sigmoid(z) b0 = Softmax(z) c0 = Sigmoid(a0) d0 = Sigmoid(b0)"


def text_of_sums(levels: int) -> str:
    """Each of four numbers is the sum of four: 4 ** levels paths lead back."""
    sums = [
        f"{name}{i + 1} = Sum(a{i}, b{i}, c{i}, d{i})" for i in range(levels) for name in "abcd"
    ]
    return " ".join([FOUR, *sums, f"y = Sum(a{levels}, b{levels}, c{levels}, d{levels})"])


def text_of_doublings(levels: int) -> str:
    sums = [f"a{i + 1} = Add(a{i}, a{i})" for i in range(levels)]
    return " ".join(["a0 = Tanh(z)", *sums, f"y = Sub(z, a{levels})"])


def test_many_paths_back_take_linear_time() -> None:
    code = (
        "import tests.heads.test_output_activation as t\n"
        "for end in (t.text_of_sums(12), t.text_of_doublings(60)):\n"
        "    score = t.find_score(t.load_text(t.text(end)))\n"
        "    print(score.logits, score.probability)\n"
    )
    ended = run_limited(code)
    assert (ended.stderr, ended.stdout) == ("", "y True\ny False\n")


HEADS = {
    "by hand": "top = ReduceMax<axes = [1]>(logits) less = Sub(logits, top) power = Exp(less)"
    " k = Constant<value_ints = [1]>() s = ReduceSum(power, k) probabilities = Div(power, s)",
    "scaled": "p = Softmax<axis = -1>(logits) hundred = Constant<value_float = 100.0>()"
    " probabilities = Mul(p, hundred)",
    "negated twice": "less = Neg(logits) t = Neg(less) probabilities = Softmax<axis = -1>(t)",
}


@pytest.mark.parametrize("end", HEADS)
def test_map_equals_that_of_logits(end: str) -> None:
    """The model is confident, so that the gradient of a probability would vanish."""
    plain = Net()
    confident = {name: array * (30 if name in "vd" else 1) for name, array in plain.weights.items()}
    head = plain.head.split("    probabilities")[0]

    def explainer(body: str, output: str) -> Any:
        proto = Net(head=f"{head} {body}", outputs=f"float[N, 5] {output}").proto()
        for tensor in proto.graph.initializer:
            if tensor.name in ("v", "d"):
                tensor.raw_data = confident[tensor.name].astype(np.float32).tobytes()
        return onnxcam.Explainer(onnxcam.load(proto), "grad-cam", "features", device="cpu")

    x = random_images(2)
    expected = explainer("", "logits")(x, target=2).maps
    assert expected.max() > 0
    np.testing.assert_allclose(
        explainer(HEADS[end], "probabilities")(x, target=2).maps, expected, rtol=1e-4
    )
