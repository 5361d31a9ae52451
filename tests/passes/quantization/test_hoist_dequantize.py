"""Quantized models: the same outputs, and every DequantizeLinear is linked to the floats before it."""

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from onnxcam.arrays import Array
from onnxcam.graph.constants import constant_values, dequantize
from onnxcam.graph.operators import CONTRIB, DOMAIN
from onnxcam.model.load import load, upgrade_model
from onnxcam.model.model import Model
from tests.passes.support.parsed import parse, run


def links(model: Model) -> list[str]:
    """The names of the floats that the DequantizeLinears are linked to."""
    return [node.inputs[3].name for node in linked_nodes(model)]


def linked_nodes(model: Model) -> list[gs.Node]:
    return [node for node in model.graph.nodes if node.domain == DOMAIN]


X = np.linspace(-3, 3, 48, dtype=np.float32).reshape(1, 3, 4, 4)
STEP: dict[str, Any] = {"s": np.float32(0.02), "z": np.uint8(100)}
ONE = """(float[1, 3, 4, 4] x) => (float[{shape}] y) {{
    q = QuantizeLinear(x, s, z)
    {moved}
    y = DequantizeLinear(m, s, z) }}"""


@pytest.mark.parametrize(
    ("shape", "moved"),
    [
        ("1, 3, 4, 4", "m = Identity(q)"),
        ("1, 4, 4, 3", "m = Transpose<perm = [0, 2, 3, 1]>(q)"),
        ("1, 48", "m = Flatten(q)"),
        ("1, 12, 2, 2", "m = SpaceToDepth<blocksize = 2>(q)"),
        ("1, 3, 2, 2", "m = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(q)"),
        ("1, 6, 4, 4", "m = Concat<axis = 1>(q, q)"),
        ("1, 3, 4, 2", "a, m = Split<axis = 3>(q)"),
        ("1, 3, 2, 2", "p = MaxPool<kernel_shape = [3, 3]>(q) m = Transpose(p)"),
    ],
)
def test_operators_that_move_integers_move_floats(shape: str, moved: str) -> None:
    if "Transpose(p)" in moved:
        shape = "2, 2, 3, 1"
    original = parse(ONE.format(shape=shape, moved=moved), opset=13, **STEP)
    model = load(original)
    assert links(model) == ["x"]
    np.testing.assert_array_equal(run(model.proto(), x=X)[0], run(original, x=X)[0])


def test_tensors_keep_their_names() -> None:
    model = load(parse(ONE.format(shape="1, 48", moved="m = Flatten(q)"), **STEP))
    assert {"x", "q", "y"} <= model.graph.tensors().keys()


def test_written_model_has_standard_operators() -> None:
    model = load(parse(ONE.format(shape="1, 3, 4, 4", moved="m = Identity(q)"), **STEP))
    assert [node.domain or "" for node in model.graph.nodes] == ["", DOMAIN]
    written = model.proto()
    onnx.checker.check_model(written, full_check=True)
    assert {node.domain for node in written.graph.node} == {""}
    assert len(links(model)) == 1, "the model itself is unchanged"
    assert links(load(written)) == ["x"]
    assert links(upgrade_model(model, 19)) == ["x"]


def test_repeated_dequantization_is_dropped() -> None:
    text = """(float[1, 3, 4, 4] x) => (float[1, 3, 4, 4] y) {
        q = QuantizeLinear(x, s, z)
        a = DequantizeLinear(q, s, z)
        b = DequantizeLinear(q, s, z)
        y = Mul(a, b) }"""
    original = parse(text, **STEP)
    model = load(original)
    assert links(model) == ["x"]
    np.testing.assert_array_equal(run(model.proto(), x=X)[0], run(original, x=X)[0])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_limits_are_the_range_of_the_integers(dtype: Any) -> None:
    text = ONE.format(shape="1, 3, 4, 4", moved="m = Identity(q)")
    model = load(parse(text, opset=21, s=np.float32(0.5), z=dtype(7)))
    node = linked_nodes(model)[0]
    limits = np.iinfo(dtype)
    assert [float(tensor.values) for tensor in list(node.inputs)[4:]] == [
        0.5 * (limits.min - 7),
        0.5 * (limits.max - 7),
    ]


def test_limits_per_channel() -> None:
    text = """(float[1, 3, 4, 4] x) => (float[1, 3, 4, 4] y) {
        q = QuantizeLinear<axis = 1>(x, s, z)
        y = DequantizeLinear<axis = 1>(q, s, z) }"""
    scales = np.array([0.01, 0.02, 0.04], np.float32)
    original = parse(text, s=scales, z=np.array([0, 128, 255], np.uint8))
    model = load(original)
    node = linked_nodes(model)[0]
    least, largest = (tensor.values for tensor in list(node.inputs)[4:])
    assert least.shape == largest.shape == (1, 3, 1, 1)
    np.testing.assert_allclose(least.ravel(), [0, -2.56, -10.2], rtol=1e-6)
    np.testing.assert_allclose(largest.ravel(), [2.55, 2.54, 0], rtol=1e-6)
    np.testing.assert_array_equal(run(model.proto(), x=X)[0], run(original, x=X)[0])


def test_dequantization_with_another_scale_is_not_linked() -> None:
    """It also multiplies by the quotient of the scales."""
    text = """(float[1, 3, 4, 4] x) => (float[1, 3, 4, 4] y) {
        q = QuantizeLinear(x, s, z)
        y = DequantizeLinear(q, other, z) }"""
    assert not links(load(parse(text, **STEP, other=np.float32(0.5))))


def test_quantization_of_the_domain_of_onnx_runtime() -> None:
    text = """(float[1, 3, 4, 4] x) => (float[1, 3, 4, 4] y) {
        q = com.microsoft.QuantizeLinear(x, s, z)
        y = com.microsoft.DequantizeLinear(q, s, z) }"""
    original = parse(text, s=np.float32(0.01), z=np.uint16(30000))
    model = load(original)
    assert links(model) == ["x"]
    assert {node.domain for node in model.proto().graph.node} == {CONTRIB}
    np.testing.assert_array_equal(run(model.proto(), x=X)[0], run(original, x=X)[0])


def test_values_of_dequantized_weights() -> None:
    text = """(float[2, 3] x) => (float[2, 4] y) {
        w = DequantizeLinear<axis = 1>(integers, s, z)
        y = MatMul(x, w) }"""
    integers = np.arange(-6, 6, dtype=np.int8).reshape(3, 4)
    scales, zeros = np.array([0.1, 0.2, 0.3, 0.4], np.float32), np.array([0, 1, 2, 3], np.int8)
    model = load(parse(text, integers=integers, s=scales, z=zeros))
    floats = constant_values(model.graph.tensors()["w"])
    assert floats is not None
    np.testing.assert_array_equal(
        run(model.proto(), x=np.eye(2, 3, dtype=np.float32))[0], floats[:2]
    )
    assert constant_values(model.graph.tensors()["y"]) is None
    assert model.graph.tensors()["integers"].values.nbytes == 12, "stored as integers"


def test_dequantized_weights_equal_those_of_the_runtime() -> None:
    draw = np.random.default_rng(0)
    integers: Array = draw.integers(0, 256, (4, 3, 2)).astype(np.uint8)
    scales, zeros = draw.random(3).astype(np.float32), draw.integers(0, 9, 3).astype(np.uint8)
    text = "(uint8[4, 3, 2] x) => (float[4, 3, 2] y) { y = DequantizeLinear<axis = 1>(x, s, z) }"
    tensors = load(parse(text, s=scales, z=zeros)).graph.tensors()
    floats = dequantize((gs.Constant("w", integers), tensors["s"], tensors["z"]), 1)
    np.testing.assert_array_equal(run(parse(text, s=scales, z=zeros), x=integers)[0], floats)


@pytest.mark.parametrize(
    ("body", "masks"),
    [
        ("a = Abs(x)", 1),
        ("a = Sigmoid(x)", 0),
        (
            "l = Constant<value_float = 0.0>() h = Constant<value_float = 2.55>() a = Clip(x, l, h)",
            0,
        ),
        (
            "l = Constant<value_float = 0.0>() h = Constant<value_float = 2.57>() a = Clip(x, l, h)",
            1,
        ),
        (
            "i = QuantizeLinear(x, s, z) d = DequantizeLinear(i, s, z) a = MaxPool<kernel_shape = [1, 1]>(d)",
            1,
        ),
    ],
)
def test_mask_only_if_values_can_be_out_of_range(body: str, masks: int) -> None:
    """Without a mask, the gradient can be seen not to depend on the image."""
    text = f"""(float[1, 3, 4, 4] x) => (float[1, 3, 4, 4] y) {{
        {body} q = QuantizeLinear(a, s, z) y = DequantizeLinear(q, s, z) }}"""
    model = load(parse(text, s=np.float32(0.01), z=np.uint8(0)))
    assert sum(len(node.inputs) == 6 for node in linked_nodes(model)) == masks


@pytest.mark.parametrize("scale", [2e36, 3e37])
def test_limits_beyond_the_dtype_are_infinite(scale: float) -> None:
    """For a finite scale, and without a warning."""
    text = ONE.format(shape="1, 3, 4, 4", moved="m = Identity(q)")
    model = load(parse(text, s=np.float32(scale), z=np.uint8(0)))
    (node,) = linked_nodes(model)
    least, largest = (tensor.values for tensor in list(node.inputs)[4:])
    assert (least, largest) == (0, np.inf)
