"""Layer-wise relevance propagation: what each rule hands on and absorbs, and that nothing is lost."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest

from onnxcam.arrays import Floats
from onnxcam.autodiff.rules import DEFAULT
from onnxcam.autodiff.tables import RULE_TABLES
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from onnxcam.rewrite.per_image import ABSORBED
from tests.autodiff.support.bent import written
from tests.autodiff.support.check import assert_valid, numbers, run
from tests.autodiff.support.rectifiers import CONSTANTS, OPERATORS, SPELLINGS

SHAPE = (2, 4, 3, 3)
X = numbers(*SHAPE, low=-3.0, high=3.0)
LARGEST_GAP = 2e-4  # in parts of the sum of the absolute relevances: epsilon, and float32


def listed(*shape: int, seed: int, low: float = -1.0) -> str:
    return ", ".join(f"{number:.4f}" for number in numbers(*shape, seed=seed, low=low).ravel())


WEIGHTS = f"""float[4, 4, 3, 3] kernel = {{{listed(144, seed=2)}}},
    float[4, 2, 3, 3] grouped = {{{listed(72, seed=3)}}},
    float[4, 1, 2, 2] depthwise = {{{listed(16, seed=4)}}},
    float[9, 5] weight = {{{listed(45, seed=5)}}}, float[3, 3] square = {{{listed(9, seed=9)}}},
    float[5] five = {{0.3, -0.4, 0.2, 0.1, -0.6}}, float[4] four = {{0.5, -1.0, 1.5, 2.0}},
    float[4, 1, 1] each = {{0.5, -1.0, 1.5, 2.0}}, float[4] positive = {{0.5, 1.0, 1.5, 2.0}},
    float[3] three_ones = {{1.0, 0.5, 2.0}}, int64[3] rows = {{0, 4, 9}}, int64[2] flat = {{0, 36}},
    float[4] scales = {{1.0, 1.0, 2.0, 2.0}}, bool[3] mask = {{1, 0, 1}}, int64 second = {{1}},
    float[1, 1, 3, 3] token = {{{listed(9, seed=6)}}}, float lowest = {{-3.4e38}},
    float tiny = {{0.001}}, float[4, 3, 3] places = {{{listed(36, seed=7)}}}, float two = {{2.0}}"""
LAYER = "h = Conv<pads = [1, 1, 1, 1]>(x, kernel, four) "  # so that what follows is not before the first
COMPUTED = "n = Shape(x) f = Cast<to = 1>(n) t = ReduceMax<keepdims = 0>(f)"  # of the image's size
RELEVANT = {  # name: what reads h, opset
    **{name: (re.sub(r"\bx\b", "h", text), opset) for name, (text, opset) in OPERATORS.items()},
    "conv": ("y = Conv<pads = [1, 1, 1, 1]>(h, kernel, four)", 17),
    "conv of positive numbers": ("a = Relu(h) y = Conv(a, kernel, four)", 17),
    "strided conv": ("y = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(h, kernel)", 17),
    "dilated conv": ("y = Conv<dilations = [2, 2], pads = [2, 2, 2, 2]>(h, kernel, four)", 17),
    "grouped conv": ("y = Conv<group = 2>(h, grouped, four)", 17),
    "depthwise conv": ("y = Conv<group = 4, pads = [1, 1, 0, 0]>(h, depthwise, four)", 17),
    "transposed conv": ("y = ConvTranspose<strides = [2, 2]>(h, kernel, four)", 17),
    "grouped transposed conv": ("y = ConvTranspose<group = 2, strides = [2, 2]>(h, grouped)", 17),
    "conv, batch norm": (
        "c = Conv(h, kernel, four) y = BatchNormalization(c, four, four, four, positive)", 17,
    ),
    "transposed conv, batch norm": (
        """c = ConvTranspose<group = 2>(h, grouped)
        two_each = Concat<axis = 0>(four) y = BatchNormalization(c, four, four, four, positive)""", 17,
    ),
    "conv, factor, constant": ("c = Conv(h, kernel) d = Mul(c, each) y = Sub(each, d)", 17),
    "batch norm alone": ("r = Relu(h) y = BatchNormalization(r, four, four, four, positive)", 17),
    "gemm": ("f = Flatten(h) a = Reshape(f, flat) y = Gemm<transB = 1, alpha = 0.5>(a, long)", 17),
    "matmul": ("f = Reshape(h, rows) y = MatMul(f, weight)", 17),
    "matmul with a bias": ("f = Reshape(h, rows) m = MatMul(f, weight) y = Add(m, five)", 17),
    "matmul from the left": ("y = MatMul(square, h)", 17),
    "einsum": ('f = Reshape(h, rows) y = Einsum<equation = "nck,km->ncm">(f, weight)', 17),
    "matmul of two": ("t = Transpose<perm = [0, 1, 3, 2]>(h) s = Tanh(t) y = MatMul(h, s)", 17),
    "attention": ("""t = Transpose<perm = [0, 1, 3, 2]>(h) l = MatMul(h, t) k = Mul(l, half)
        a = Softmax<axis = -1>(k) y = MatMul(a, h)""", 17),
    "masked attention": ("""t = Transpose<perm = [0, 1, 3, 2]>(h) l = MatMul(h, t)
        w = Where(mask, l, lowest) a = Softmax<axis = -1>(w) y = MatMul(a, h)""", 17),
    "fused attention": ("y = Attention(h, h, h)", 23),
    "attention in parts": ("""t = Transpose<perm = [0, 1, 3, 2]>(h) l = MatMul(h, t) k = Mul(l, tiny)
        e = Exp(k) s = ReduceSum<keepdims = 1>(e, last) a = Div(e, s) y = MatMul(a, h)""", 17),
    "squeeze and excitation": ("""m = GlobalAveragePool(h) c = Conv(m, pointwise) s = Sigmoid(c)
        y = Mul(h, s)""", 17),
    "hard gate": ("""m = GlobalAveragePool(h) a = Add(m, three) b = Clip(a, zero, six) c = Div(b, six)
        y = Mul(c, h)""", 17),
    "gated linear unit": ("a, b = Split<axis = 1, num_outputs = 2>(h) s = Sigmoid(b) y = Mul(a, s)", 18),
    "product": ("a = Tanh(h) y = Mul(a, h)", 17),
    "square": ("y = Mul(h, h)", 17),
    "quotient": ("e = Exp(h) y = Div(h, e)", 17),
    "power": ("y = Pow(h, two)", 17),
    "sum": ("a = Tanh(h) y = Add(a, h)", 17),
    "difference": ("a = Tanh(h) y = Sub(a, h)", 17),
    "sum of three": ("a = Tanh(h) b = Neg(h) c = Softplus(b) y = Sum(a, c, h)", 17),
    "mean of two": ("a = Tanh(h) y = Mean(a, h)", 17),
    "sum that broadcasts": ("m = ReduceMean<axes = [2, 3]>(h) y = Add(h, m)", 17),
    "constant of each place": ("y = Add(h, places)", 17),
    "computed constant": (f"{COMPUTED} y = Add(h, t)", 17),
    "computed factor": (f"{COMPUTED} y = Mul(t, h)", 17),
    "gated constant": (f"{COMPUTED} s = Sigmoid(h) y = Mul(s, t)", 17),
    "constant minus": ("a = Relu(h) y = Sub(places, a)", 17),
    "maximum of two": ("a = Tanh(h) y = Max(a, h)", 17),
    "relu6 as minimum": ("a = Relu(h) y = Min(a, six)", 17),
    "shared relu": ("r = Relu(h) a = Tanh(r) y = Add(a, r)", 17),
    "max pool": ("y = MaxPool<kernel_shape = [2, 2]>(h)", 17),
    "average pool": ("y = AveragePool<kernel_shape = [2, 2]>(h)", 17),
    "global pools": ("a = GlobalAveragePool(h) b = GlobalMaxPool(h) y = Add(a, b)", 17),
    "lp pool": ("a = GlobalLpPool(h) b = LpPool<kernel_shape = [3, 3], p = 3>(h) y = Add(a, b)", 17),
    "reductions": ("""a = ReduceSum(h, last) b = ReduceMax<axes = [-1]>(h) c = ReduceL2<axes = [-1]>(h)
        d = ReduceL1<axes = [-1]>(h) e = ReduceSumSquare<axes = [-1]>(h)
        f = ReduceLogSumExp<axes = [-1]>(h) g = ReduceProd<axes = [-1]>(h) y = Sum(a, b, c, d, e, f, g)""", 17),
    "log of a sum": ("e = Exp(h) y = ReduceLogSum<axes = [1]>(e)", 17),
    "resize": ('y = Resize<mode = "linear">(h, , scales)', 17),
    "nearest": ('y = Resize<mode = "nearest">(h, , scales)', 17),
    "concat with a token": ("""shape = Shape<end = 1>(h) rest = Constant<value_ints = [1, 3, 3]>()
        full = Concat<axis = 0>(shape, rest) t = Expand(token, full) y = Concat<axis = 1>(t, h, h)""", 17),
    "where with a mask": ("y = Where(mask, h, one)", 17),
    "gather, pad": ("""i = Gather<axis = 1>(h, second) p = Constant<value_ints = [0, 1, 1, 0, 0, 0]>()
        y = Pad(i, p)""", 17),
    "softmax": ("y = Softmax<axis = 1>(h)", 17),
    "layer norm": ("y = LayerNormalization<axis = -1>(h, three_ones, three_ones)", 17),
    "rms norm": ("y = RMSNormalization<axis = -1>(h, three_ones)", 23),
    "instance norm": ("y = InstanceNormalization(h, four, four)", 17),
    "group norm": ("y = GroupNormalization<num_groups = 2>(h, four, four)", 21),
    "mean variance norm": ("y = MeanVarianceNormalization<axes = [1, 2, 3]>(h)", 17),
    "l2 norm": ("y = LpNormalization<axis = 1>(h)", 17),
    "local response": ("y = LRN<size = 3>(h)", 17),
}  # fmt: skip
MORE = f""", float[5, 36] long = {{{listed(180, seed=8)}}}, int64[1] last = {{-1}},
    float[4, 4, 1, 1] pointwise = {{{listed(16, seed=10)}}}"""


def model(text: str, opset: int = 17) -> onnx.ModelProto:
    return written(text, opset, constants=f"{CONSTANTS}, {WEIGHTS}{MORE}")


def relevance(proto: onnx.ModelProto, x: Floats, at: str = "x") -> tuple[Floats, Floats, Floats]:
    """The relevance of x, what constants absorb (N,), and the scores (N,), for a seed of normal numbers."""
    augmented = gradient(load(proto), [at], "y", "lrp").proto()
    assert_valid(augmented)
    (y,) = run(proto, {"x": x}, ["y"])
    seed = np.random.default_rng(1).normal(size=y.shape).astype(np.float32)
    r, absorbed = run(augmented, {"x": x, SEED: seed}, [f"gradient/{at}", ABSORBED])
    scores = np.sum(seed * y.astype(np.float64), axis=tuple(range(1, y.ndim)))
    return np.asarray(r, np.float64), np.asarray(absorbed, np.float64), scores


@pytest.mark.parametrize("name", RELEVANT)
def test_relevance_and_what_constants_absorb_is_the_score(name: str) -> None:
    text, opset = RELEVANT[name]
    r, absorbed, scores = relevance(model(LAYER + text, opset), X)
    assert np.isfinite(r).all()
    assert np.abs(r).max() > 0
    size = np.sum(np.abs(r), axis=(1, 2, 3)) + np.abs(scores)
    gaps = np.abs(np.sum(r, axis=(1, 2, 3)) + absorbed - scores) / size
    assert gaps.max() <= LARGEST_GAP


SPELLED = {  # other nodes that compute the same, name: text, text
    **{
        " ".join(name): (OPERATORS[name[0]][0], text)
        for name, text in SPELLINGS.items()
        if OPERATORS[name[0]][1] == 17
    },
    "layer norm": (
        "y = LayerNormalization<axis = -1, epsilon = 0.001>(x, three_ones, three_ones)",
        """m = ReduceMean<axes = [-1]>(x) c = Sub(x, m) q = Mul(c, c) v = ReduceMean<axes = [-1]>(q)
        e = Add(v, tiny) d = Sqrt(e) s = Div(c, d) t = Mul(s, three_ones) y = Add(t, three_ones)""",
    ),
    "layer norm by a power": (
        "y = LayerNormalization<axis = -1, epsilon = 0.001>(x, three_ones, three_ones)",
        """m = ReduceMean<axes = [-1]>(x) c = Sub(x, m) q = Pow(c, two) v = ReduceMean<axes = [-1]>(q)
        e = Add(v, tiny) p = Neg(half) d = Pow(e, p) s = Mul(c, d) t = Mul(s, three_ones)
        y = Add(t, three_ones)""",
    ),
    "layer norm by a reciprocal": (
        "y = LayerNormalization<axis = -1, epsilon = 0.001>(x, three_ones, three_ones)",
        """m = ReduceMean<axes = [-1]>(x) c = Sub(x, m) q = Mul(c, c) v = ReduceMean<axes = [-1]>(q)
        e = Add(v, tiny) d = Sqrt(e) i = Reciprocal(d) s = Mul(i, c) t = Mul(s, three_ones)
        y = Add(t, three_ones)""",
    ),
    "batch norm": (
        "a = Relu(x) y = BatchNormalization<epsilon = 0.0>(a, four, four, zeros, ones)",
        "a = Relu(x) b = Mul(a, each) y = Add(each, b)",
    ),
    "merged batch norm": (
        """c = Conv(x, kernel, four)
        y = BatchNormalization<epsilon = 0.0>(c, four, four, zeros, ones)""",
        "c = Conv(x, kernel, four) b = Mul(c, each) y = Add(each, b)",
    ),
    "softmax": (
        "s = Softmax<axis = -1>(x) y = MatMul(s, x)",
        """e = Exp(x) t = ReduceSum<keepdims = 1>(e, last) s = Div(e, t) y = MatMul(s, x)""",
    ),
    "silu as a quotient": (
        "s = Sigmoid(x) y = Mul(x, s)",
        "n = Neg(x) e = Exp(n) d = Add(one, e) y = Div(x, d)",
    ),
}
ONES = ", float[4] ones = {1.0, 1.0, 1.0, 1.0}, float[4] zeros = {0.0, 0.0, 0.0, 0.0}"


@pytest.mark.parametrize("name", SPELLED)
def test_relevance_does_not_depend_on_how_a_function_is_written(name: str) -> None:
    results = []
    for text in SPELLED[name]:
        body = LAYER.replace("h =", "k =") + re.sub(r"\bx\b", "k", text)
        proto = written(body, 17, constants=f"{CONSTANTS}, {WEIGHTS}{MORE}{ONES}")
        results.append(relevance(proto, X))
    (first, first_absorbed, _), (second, second_absorbed, _) = results
    np.testing.assert_allclose(second, first, atol=1e-4 * np.abs(first).max())
    np.testing.assert_allclose(second_absorbed, first_absorbed, atol=1e-4 * np.abs(first).sum())


def windows(x: Floats, kernel: Floats, stride: int = 1, group: int = 1) -> Floats:
    """z+ of a convolution without pads or bias, by loops; relevance 1 for every output number."""
    result = np.zeros(x.shape)
    outputs, inputs, *_ = kernel.shape
    for n in range(len(x)):
        for m in range(outputs):
            first = m // (outputs // group) * inputs
            for i in range(0, x.shape[2] - kernel.shape[2] + 1, stride):
                for j in range(0, x.shape[3] - kernel.shape[3] + 1, stride):
                    cells = (
                        n,
                        slice(first, first + inputs),
                        slice(i, i + kernel.shape[2]),
                        slice(j, j + kernel.shape[3]),
                    )
                    parts = np.maximum(x[cells] * kernel[m], 0)
                    result[cells] += parts / (parts.sum() + 1e-6)
    return result


@pytest.mark.parametrize(("weights", "group"), [("kernel", 1), ("grouped", 2), ("depthwise", 4)])
def test_convolution_shares_relevance_by_positive_contributions(weights: str, group: int) -> None:
    """At h, the input of the second convolution; the relevance of y is made 1 by a seed of 1 / y."""
    proto = model(f"{LAYER} y = Conv<group = {group}>(h, {weights})")
    (y,) = run(proto, {"x": X}, ["y"])
    augmented = gradient(load(proto), ["h"], "y", "lrp").proto()
    r, values = run(augmented, {"x": X, SEED: 1 / y}, ["gradient/h", "h"])
    array = next(array for array in proto.graph.initializer if array.name == weights)
    expected = windows(values, onnx.numpy_helper.to_array(array), group=group)
    np.testing.assert_allclose(r, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "a = Div(x, six) b = Sub(a, each) y = Conv(b, kernel, four)",
        f"{COMPUTED} a = Sub(x, t) y = Conv(a, kernel, four)",
        "a = BatchNormalization(x, four, four, four, positive) y = Conv(a, kernel, four)",
    ],
)
def test_first_layer_shares_relevance_evenly_whatever_prepares_the_image(text: str) -> None:
    r, absorbed, scores = relevance(model(text), X)
    np.testing.assert_allclose(r, np.broadcast_to(r[:, :1, :1, :1], r.shape), rtol=1e-5)
    np.testing.assert_allclose(r.sum(axis=(1, 2, 3)), scores, rtol=1e-4)
    assert not absorbed.any()


def test_first_layers_of_two_branches_are_both_even() -> None:
    text = "a = Conv(x, kernel, four) b = Conv(x, kernel) c = Tanh(b) y = Add(a, c)"
    r, _, scores = relevance(model(text), X)
    np.testing.assert_allclose(r, np.broadcast_to(r[:, :1, :1, :1], r.shape), rtol=1e-4)
    np.testing.assert_allclose(r.sum(axis=(1, 2, 3)), scores, rtol=1e-3)


@pytest.mark.parametrize(
    "text",
    [
        "f = Reshape(x, rows) y = MatMul(f, weight)",
        "f = Reshape(x, flat) y = Gemm<transB = 1, alpha = 0.5>(f, long)",
        'f = Reshape(x, rows) y = Einsum<equation = "nck,km->ncm">(f, weight)',
    ],
)
def test_first_product_is_even_along_its_rows(text: str) -> None:
    r, _, scores = relevance(model(text), X)
    np.testing.assert_allclose(r, np.broadcast_to(r[..., :1, :1], r.shape), rtol=1e-4)
    np.testing.assert_allclose(r.sum(axis=(1, 2, 3)), scores, rtol=1e-3)


def test_gate_gets_no_relevance() -> None:
    text = RELEVANT["squeeze and excitation"][0]
    proto = model(LAYER + text)
    r, absorbed, scores = relevance(proto, X, "h")
    (y,) = run(proto, {"x": X}, ["y"])
    seed = np.random.default_rng(1).normal(size=y.shape)
    np.testing.assert_allclose(r, seed * y, rtol=1e-4, atol=1e-6)
    assert not absorbed.any()
    np.testing.assert_allclose(r.sum(axis=(1, 2, 3)), scores, rtol=1e-3)


def test_every_operator_with_a_gradient_has_relevance() -> None:
    """An LSTM has that of its parts, as have operators without a rule of their own."""
    assert RULE_TABLES["lrp"].keys() == DEFAULT.keys() - {"LSTM"}


def test_relevance_starts_as_the_score() -> None:
    r, _, scores = relevance(written("y = Identity(x)"), X)
    np.testing.assert_allclose(r.sum(axis=(1, 2, 3)), scores, rtol=1e-5)


def test_images_of_any_size_conserve_relevance() -> None:
    text = f"{LAYER} a = Relu(h) m = MaxPool<kernel_shape = [2, 2]>(a) y = GlobalAveragePool(m)"
    proto = written(text, shape="n, 4, h, w", constants=f"{CONSTANTS}, {WEIGHTS}{MORE}")
    for height, width in ((5, 7), (8, 4)):
        r, absorbed, scores = relevance(proto, numbers(2, 4, height, width))
        np.testing.assert_allclose(r.sum(axis=(1, 2, 3)) + absorbed, scores, rtol=1e-3)


def test_half_precision_divides_by_small_numbers_in_float32() -> None:
    """1 / 1e-6 is more than float16 holds."""
    text = f"{LAYER} c = Conv(h, kernel, four) f = Reshape(c, columns) y = MatMul(f, narrow)"
    constants = f"float[4, 2] narrow = {{{listed(8, seed=11)}}}, int64[2] columns = {{0, 4}}"
    proto = written(text, constants=f"{CONSTANTS}, {WEIGHTS}{MORE}, {constants}")
    for array in proto.graph.initializer:
        if array.data_type == onnx.TensorProto.FLOAT:
            values = np.clip(onnx.numpy_helper.to_array(array), -6e4, 6e4).astype(np.float16)
            array.CopyFrom(onnx.numpy_helper.from_array(values, array.name))
    for tensor in (*proto.graph.input, *proto.graph.output):
        tensor.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    model = gradient(load(proto), ["x"], "y", "lrp")
    divisors = [node.inputs[1] for node in model.graph.nodes if node.op == "Div"]
    assert len(divisors) >= 3
    assert all(tensor.dtype == np.float32 for tensor in divisors)
    seed = np.eye(2, dtype=np.float32)
    r, absorbed, y = run(
        model.proto(), {"x": X.astype(np.float16), SEED: seed}, ["gradient/x", ABSORBED, "y"]
    )
    score = np.sum(seed * y, axis=1)
    np.testing.assert_allclose(r.sum(axis=(1, 2, 3)) + absorbed, score, atol=0.02)
