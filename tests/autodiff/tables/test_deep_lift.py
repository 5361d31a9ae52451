"""Multipliers of DeepLIFT: each rule by itself, and the sum over a model."""

import numpy as np
import onnx
import pytest

from onnxcam.arrays import Floats
from onnxcam.errors import OnnxcamError
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import gradient
from onnxcam.specs import REFERENCE
from onnxcam.specs import SEED as SEED_INPUT
from tests.autodiff.support.bent import bent_gradient, gap, multipliers, written
from tests.autodiff.support.check import numbers, run
from tests.autodiff.support.rectifiers import CONSTANTS, OPERATORS, SPELLINGS
from tests.support.nets import DEEP, NHWC, POOLED, Net

SHAPE = (2, 4, 3, 3)
X, BASELINE = numbers(*SHAPE, low=-4.0, high=4.0), numbers(*SHAPE, seed=1, low=-4.0, high=4.0)
LARGEST_GAP = 1e-5  # in parts of the sum of absolute values


def listed(*shape: int, seed: int) -> str:
    return ", ".join(f"{number:.4f}" for number in numbers(*shape, seed=seed).ravel())


WEIGHTS = f"""float[4, 4, 3, 3] kernel = {{{listed(144, seed=2)}}},
    float[9, 5] weight = {{{listed(45, seed=3)}}}, float[4] four = {{0.5, 1.0, 1.5, 2.0}},
    float[3] three_ones = {{1.0, 0.5, 2.0}}, int64[3] rows = {{0, 4, 9}}"""

EXACT = {  # sum to delta; name: text, opset
    **OPERATORS,
    **{" ".join(name): (text, 17) for name, text in SPELLINGS.items()},
    "conv, relu": ("c = Conv<pads = [1, 1, 1, 1]>(x, kernel) y = Relu(c)", 17),
    "shared relu": ("r = Relu(x) a = Sin(r) y = Add(a, r)", 17),
    "product": ("a = Sin(x) y = Mul(a, x)", 17),
    "product that broadcasts": ("m = ReduceMean<axes = [2, 3]>(x) y = Mul(m, x)", 17),
    "square": ("y = Mul(x, x)", 17),
    "cube": ("a = Mul(x, x) y = Mul(a, x)", 17),
    "division": ("e = Exp(x) b = Add(e, one) y = Div(x, b)", 17),
    "reciprocal": ("e = Exp(x) b = Add(e, one) y = Div(one, b)", 17),
    "power": ("a = Abs(x) y = Pow(a, cube)", 17),
    "square by power": ("a = Mul(x, x) two = Add(one, one) y = Pow(x, two)", 17),
    "power by power": ("e = Exp(x) s = Sin(x) y = Pow(e, s)", 17),
    "slope": ("s = Sin(x) y = PRelu(x, s)", 17),
    "matmul": ("t = Transpose<perm = [0, 1, 3, 2]>(x) s = Sin(t) y = MatMul(x, s)", 17),
    "matmul with a weight": ("f = Reshape(x, rows) y = MatMul(f, weight)", 17),
    "gemm": (
        """r = ReduceMean<axes = [0, 1], keepdims = 0>(x) s = Sin(r)
        y = Gemm<alpha = 0.5, transB = 1>(r, s, r)""",
        17,
    ),
    "einsum": ('s = Sin(x) y = Einsum<equation = "nchw,ncwh->nch">(x, s)', 17),
    "maximum": ("s = Sin(x) y = Max(x, s)", 17),
    "minimum of three": ("s = Sin(x) m = ReduceMean<axes = [1]>(x) y = Min(s, m, x)", 17),
    "maximum of three": ("s = Sin(x) y = Max(s, half, x)", 17),
    "where with a mask": ("y = Where(mask, x, one)", 17),
    "softmax": ("y = Softmax<axis = 1>(x)", 17),
    "softmax far away": ("a = Mul(x, hundred) y = Softmax<axis = -1>(a)", 17),
    "softmax of old opset": ("y = Softmax<axis = 2>(x)", 11),
    "softmax with a mask": ("a = Where(mask, x, lowest) y = Softmax<axis = -1>(a)", 17),
    "log softmax": ("y = LogSoftmax<axis = 1>(x)", 17),
    "max pool": ("y = MaxPool<kernel_shape = [2, 2], strides = [1, 1]>(x)", 17),
    "max pool in columns": (
        "y, i = MaxPool<kernel_shape = [2, 2], strides = [1, 1], storage_order = 1>(x)",
        17,
    ),
    "global max pool": ("y = GlobalMaxPool(x)", 17),
    "global average pool": ("y = GlobalAveragePool(x)", 17),
    "lp pool": ("y = LpPool<kernel_shape = [2, 2], p = 2>(x)", 17),
    "lp pool, p = 3": ("y = LpPool<kernel_shape = [2, 2], p = 3>(x)", 17),
    "global lp pool": ("y = GlobalLpPool<p = 1>(x)", 17),
    "reduce max": ("y = ReduceMax<axes = [1], keepdims = 0>(x)", 17),
    "reduce min": ("y = ReduceMin<axes = [2, 3]>(x)", 17),
    "reduce min of equal numbers": ("r = Relu(x) y = ReduceMin<axes = [3]>(r)", 17),
    "mean of squares": ("a = Mul(x, x) y = ReduceMean<axes = [1]>(a)", 17),
    "sum of squares": ("y = ReduceSumSquare<axes = [-1], keepdims = 0>(x)", 17),
    "l1": ("y = ReduceL1<axes = [1]>(x)", 17),
    "l2": ("y = ReduceL2<axes = [1]>(x)", 17),
    "log of a sum": ("e = Exp(x) y = ReduceLogSum<axes = [1]>(e)", 17),
    "log of a sum of exp": ("y = ReduceLogSumExp<axes = [1, 2]>(x)", 17),
    "layer norm": ("y = LayerNormalization<axis = -1>(x, three_ones, three_ones)", 17),
    "layer norm, all outputs": (
        """a, m, f = LayerNormalization<axis = -1>(x, three_ones, three_ones) b = Mul(a, m) y = Add(b, f)""",
        17,
    ),
    "layer norm, scale of the image": (
        """s = ReduceMean<axes = [0, 1, 2], keepdims = 0>(x) y = LayerNormalization<axis = -1>(x, s)""",
        17,
    ),
    "rms norm": ("y = RMSNormalization<axis = 2>(x, three_ones)", 23),
    "instance norm": ("y = InstanceNormalization(x, four, four)", 17),
    "group norm": ("y = GroupNormalization<num_groups = 2>(x, four, four)", 21),
    "batch norm": ("y = BatchNormalization(x, four, four, four, four)", 17),
    "mean variance norm": ("y = MeanVarianceNormalization<axes = [0, 2, 3]>(x)", 13),
    "l2 norm": ("y = LpNormalization<axis = 1>(x)", 17),
    "l1 norm": ("y = LpNormalization<axis = -1, p = 1>(x)", 17),
    "local response": ("y = LRN<size = 3, alpha = 0.5>(x)", 17),
    "resize": ('y = Resize<mode = "linear">(x, , scales)', 17),
    "attention": ("y = Attention(x, x, x)", 23),
}
MORE = """, float hundred = {100.0}, float lowest = {-3.4e38}, bool[3] mask = {1, 0, 1},
    float[4] scales = {1.0, 1.0, 2.0, 2.0}"""


def exact_model(name: str) -> onnx.ModelProto:
    text, opset = EXACT[name]
    return written(text, opset, constants=f"{CONSTANTS}, {WEIGHTS}{MORE}")


@pytest.mark.parametrize("name", EXACT)
def test_multipliers_sum_to_the_difference_of_the_scores(name: str) -> None:
    assert gap(exact_model(name), X, BASELINE) <= LARGEST_GAP


@pytest.mark.parametrize("name", EXACT)
def test_multiplier_at_the_reference_itself_is_the_gradient(name: str) -> None:
    proto = exact_model(name)
    (y,) = run(proto, {"x": X}, ["y"])
    seed = numbers(*y.shape, seed=5)
    gradient = bent_gradient(proto, "default", X, seed)
    result = multipliers(proto, X, X, seed)
    tolerance = 1e-4 * np.abs(gradient).max()
    np.testing.assert_allclose(result, gradient, rtol=1e-4, atol=max(tolerance, 1e-6))


SEED = numbers(*SHAPE, seed=7)


@pytest.mark.parametrize("operator", ["Relu", "Sigmoid", "Exp", "HardSwish"])
def test_multiplier_of_a_function_of_one_number_is_the_secant(operator: str) -> None:
    proto = written(f"y = {operator}(x)")
    y, y0 = (run(proto, {"x": image}, ["y"])[0] for image in (X, BASELINE))
    m = multipliers(proto, X, BASELINE, SEED)
    np.testing.assert_allclose(m, SEED * (y - y0) / (X - BASELINE), rtol=1e-5, atol=1e-6)


def test_secant_of_nearly_equal_numbers_is_the_derivative() -> None:
    """Rounding makes the quotient of sigmoids whose arguments are neighbors in float32 0 or 2, not 0.24."""
    proto, near = written("y = Sigmoid(x)"), np.nextafter(X, np.float32(9.0))
    expected = bent_gradient(proto, "default", X, SEED)
    np.testing.assert_allclose(multipliers(proto, X, near, SEED), expected, rtol=1e-4)


def test_multiplier_of_a_product_is_the_midpoint() -> None:
    m = multipliers(written("s = Abs(x) y = Mul(x, s)"), X, BASELINE, SEED)
    slope = (np.abs(X) - np.abs(BASELINE)) / (X - BASELINE)
    exact = (np.abs(X) + np.abs(BASELINE)) / 2 + slope * (X + BASELINE) / 2
    np.testing.assert_allclose(m, SEED * exact, rtol=1e-4, atol=1e-5)


def max_pool_twin(x: Floats, x0: Floats, seed: Floats) -> Floats:
    """Window by window, of 2 x 2 cells one apart, as in the paper's appendix."""
    rise = np.zeros_like(x)
    for index in np.ndindex(seed.shape):
        n, c, i, j = index
        window = n, c, slice(i, i + 2), slice(j, j + 2)
        y, y0 = x[window].max(), x0[window].max()
        m = max(y, y0)
        first, second = (np.unravel_index(v[window].argmax(), (2, 2)) for v in (x, x0))
        rise[n, c, i + first[0], j + first[1]] += seed[index] * (m - y0)
        rise[n, c, i + second[0], j + second[1]] += seed[index] * (y - m)
    return rise / (x - x0)


def test_max_pool_shares_between_both_maxima() -> None:
    proto = written("y = MaxPool<kernel_shape = [2, 2], strides = [1, 1]>(x)")
    seed = numbers(2, 4, 2, 2, seed=7)
    m = multipliers(proto, X, BASELINE, seed)
    np.testing.assert_allclose(m, max_pool_twin(X, BASELINE, seed), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2])
def test_reference_is_one_for_all_images_or_one_for_each(batch: int) -> None:
    proto = written("y = Softmax<axis = 1>(x)")
    baseline = BASELINE[:batch]
    result = multipliers(proto, X, baseline, SEED)
    for i in range(2):
        one = slice(i, i + 1)
        own = baseline[one] if batch == 2 else baseline
        alone = multipliers(proto, X[one], own, SEED[one])
        np.testing.assert_allclose(result[one], alone, rtol=1e-5, atol=1e-7)


def test_reference_of_a_fixed_batch_is_broadcast() -> None:
    proto = written("y = Relu(x)", shape="2, 4, 3, 3")
    expected = multipliers(written("y = Relu(x)"), X, BASELINE[:1], SEED)
    np.testing.assert_array_equal(multipliers(proto, X, BASELINE[:1], SEED), expected)


@pytest.mark.parametrize("net", [POOLED, DEEP, NHWC], ids=["pooled", "deep", "channels last"])
def test_multipliers_of_a_network_sum_to_the_difference_of_the_logits(net: Net) -> None:
    x, reference = numbers(2, 3, 8, 8), numbers(1, 3, 8, 8, seed=1)
    if net is NHWC:
        x, reference = (np.moveaxis(image, 1, -1).copy() for image in (x, reference))
    seed, augmented = numbers(2, 5), gradient(load(net.proto()), ["x"], "logits", "deep-lift")
    feed = {"x": x, SEED_INPUT: seed, REFERENCE: reference}
    m, y = run(augmented.proto(), feed, ["gradient/x", "logits"])
    feed["x"] = np.repeat(reference, 2, axis=0)
    (y0,) = run(augmented.proto(), feed, ["logits"])
    exact = np.sum(seed * (y - y0), axis=1)
    np.testing.assert_allclose(np.sum((x - reference) * m, axis=(1, 2, 3)), exact, rtol=1e-4)


def test_multipliers_of_images_of_any_size_sum_to_the_difference() -> None:
    text = """c = Conv<pads = [1, 1, 1, 1]>(x, kernel) n = InstanceNormalization(c, four, four)
        s = Sigmoid(n) p = Mul(n, s) m = MaxPool<kernel_shape = [2, 2]>(p) y = GlobalAveragePool(m)"""
    proto = written(text, shape="n, 4, h, w", constants=WEIGHTS)
    for height, width in ((5, 7), (8, 4)):
        x, reference = (numbers(2, 4, height, width, seed=seed, high=2.0) for seed in (0, 1))
        assert gap(proto, x, reference) <= LARGEST_GAP


def test_multipliers_in_half_precision_are_those_of_float32() -> None:
    text = """c = Conv<pads = [1, 1, 1, 1]>(x, kernel) r = Relu(c)
        m = MaxPool<kernel_shape = [2, 2], strides = [1, 1]>(r) y = Softmax<axis = 1>(m)"""
    wide = written(text, constants=WEIGHTS)
    narrow = written(text, constants=WEIGHTS)
    for tensor in (*narrow.graph.input, *narrow.graph.output):
        tensor.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    kernel = next(array for array in narrow.graph.initializer if array.name == "kernel")
    values = onnx.numpy_helper.to_array(kernel).astype(np.float16)
    kernel.CopyFrom(onnx.numpy_helper.from_array(values, "kernel"))
    x, reference = X.astype(np.float16), BASELINE.astype(np.float16)
    seed = numbers(2, 4, 2, 2, seed=7)
    exact = multipliers(wide, x.astype(np.float32), reference.astype(np.float32), seed)
    result = multipliers(narrow, x, reference, seed)
    assert result.dtype == np.float32
    assert np.abs(result - exact).max() <= 0.02 * np.abs(exact).max()


def test_relu_is_exact_between_neighboring_and_equal_numbers() -> None:
    """(relu(x) - relu(x')) / (x - x') and, where x and x' are equal, the derivative."""
    pairs = np.array(
        [
            [1.0, np.nextafter(np.float32(1.0), np.float32(2.0))],
            [-1.0, np.nextafter(np.float32(-1.0), np.float32(0.0))],
            [3e-7, -1e-7],
            [-1e-30, 3e-30],
            [1e30, -1e-30],
            [5.0, 0.0],
            [2.0, 2.0],
            [-2.0, -2.0],
            [0.0, 0.0],
            [-0.0, 0.0],
        ],
        np.float32,
    )
    x, reference = pairs.T.reshape(2, 1, 1, 1, -1)
    m = multipliers(written("y = Relu(x)", shape="1, 1, 1, 10"), x, reference, np.ones_like(x))
    expected = [1, 0, 0.75, 0.75, 1, 1, 1, 0, 0, 0]
    np.testing.assert_allclose(m.ravel(), expected, rtol=1e-6)


QUANTIZED = """q = QuantizeLinear(x, step, middle) d = DequantizeLinear(q, step, middle)
    y = Relu(d)"""
STEP = 0.05


def quantized() -> onnx.ModelProto:
    return written(QUANTIZED, constants=f"float step = {{{STEP}}}, uint8 middle = {{128}}")


def test_multipliers_through_a_quantization_sum_to_the_difference() -> None:
    assert gap(quantized(), X, -X) <= LARGEST_GAP


def test_quantization_of_numbers_within_a_step_is_passed_straight_through() -> None:
    text = QUANTIZED.replace("Relu", "Identity")
    proto = written(text, constants=f"float step = {{{STEP}}}, uint8 middle = {{128}}")
    np.testing.assert_array_equal(multipliers(proto, X, X + np.float32(0.02), SEED), SEED)


def test_condition_that_changes_shares_the_cotangent() -> None:
    proto = written(
        "s = Sin(x) c = Less(x, zero) y = Where(c, x, s)", constants="float zero = {0.0}"
    )
    m = multipliers(proto, X, BASELINE, SEED)
    held = ((X < 0).astype(np.float32) + (BASELINE < 0)) / 2
    slope = (np.sin(X) - np.sin(BASELINE)) / (X - BASELINE)
    np.testing.assert_allclose(m, SEED * (held + (1 - held) * slope), rtol=1e-4, atol=1e-5)


def test_layer_between_has_multipliers_of_its_own() -> None:
    """The sum over a layer is the difference of the scores, too."""
    proto = written("a = Sin(x) y = Softmax<axis = 1>(a)")
    augmented = gradient(load(proto), ["a"], "y", "deep-lift").proto()
    feed = {"x": X, REFERENCE: BASELINE, SEED_INPUT: SEED}
    (m,) = run(augmented, feed, ["gradient/a"])
    y, y0 = (run(proto, {"x": image}, ["y"])[0] for image in (X, BASELINE))
    total = np.sum(m * (np.sin(X) - np.sin(BASELINE)))
    assert total == pytest.approx(np.sum(SEED * (y - y0)), rel=1e-4)


def test_table_without_comparison_adds_no_reference() -> None:
    model = gradient(load(written("y = Relu(x)")), ["x"], "y", "guided")
    assert [tensor.name for tensor in model.graph.inputs] == ["x", "seed"]


def test_score_of_a_branch_chosen_by_the_image_is_refused() -> None:
    """The nodes of a branch read tensors of the image, of which the copy would know nothing."""
    text = """m = ReduceMax(x) c = Cast<to = 9>(m) s = Squeeze(c)
        k = If(s) <then_branch = yes () => (float k1) { k1 = Identity(m) },
                   else_branch = no () => (float k2) { k2 = Neg(m) }> i = Floor(k) y = Mul(x, i)"""
    with pytest.raises(OnnxcamError, match="run on other values"):
        gradient(load(written(text)), ["x"], "y", "deep-lift")
