"""Quantised models: the forward pass is what it was, and floats are linked where integers were between."""

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
from onnx import numpy_helper

from onnxcam.arrays import Array
from onnxcam.graph.constants import constant_values, dequantize
from onnxcam.graph.operators import DOMAIN
from onnxcam.model.load import load, upgrade_model
from onnxcam.model.model import Model

CONTRIB = "com.microsoft"


def proto(text: str, opset: int = 17, **constants: Any) -> onnx.ModelProto:
    head = f'<ir_version: 9, opset_import: ["": {opset}, "{CONTRIB}": 1]>'
    found = onnx.parser.parse_model(f"{head} net {text}")
    for name, array in constants.items():
        found.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return found


def run(content: onnx.ModelProto, **feed: Any) -> list[Any]:
    """As it is written: nothing is fused."""
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        content.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feed))


def links(model: Model) -> list[str]:
    """The floats that each DequantizeLinear is told of."""
    return [each.inputs[3].name for each in model.graph.nodes if each.domain == DOMAIN]


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
def test_moving_integers_is_moving_floats(shape: str, moved: str) -> None:
    if "Transpose(p)" in moved:
        shape = "2, 2, 3, 1"
    original = proto(ONE.format(shape=shape, moved=moved), opset=13, **STEP)
    model = load(original)
    assert links(model) == ["x"]
    np.testing.assert_array_equal(run(model.proto(), x=X)[0], run(original, x=X)[0])


def test_names_are_kept() -> None:
    model = load(proto(ONE.format(shape="1, 48", moved="m = Flatten(q)"), **STEP))
    assert {"x", "q", "y"} <= model.graph.tensors().keys()


def test_what_is_written_has_no_operator_of_ours() -> None:
    model = load(proto(ONE.format(shape="1, 3, 4, 4", moved="m = Identity(q)"), **STEP))
    assert [each.domain or "" for each in model.graph.nodes] == ["", DOMAIN]
    written = model.proto()
    onnx.checker.check_model(written, full_check=True)
    assert {each.domain for each in written.graph.node} == {""}
    assert len(links(model)) == 1, "the model is as it was"
    assert links(load(written)) == ["x"]
    assert links(upgrade_model(model, 19)) == ["x"]


def test_the_same_is_dequantize_once() -> None:
    text = """(float[1, 3, 4, 4] x) => (float[1, 3, 4, 4] y) {
        q = QuantizeLinear(x, s, z)
        a = DequantizeLinear(q, s, z)
        b = DequantizeLinear(q, s, z)
        y = Mul(a, b) }"""
    original = proto(text, **STEP)
    model = load(original)
    assert links(model) == ["x"]
    np.testing.assert_array_equal(run(model.proto(), x=X)[0], run(original, x=X)[0])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_the_range_of_the_integers(dtype: Any) -> None:
    text = ONE.format(shape="1, 3, 4, 4", moved="m = Identity(q)")
    model = load(proto(text, opset=21, s=np.float32(0.5), z=dtype(7)))
    node = next(each for each in model.graph.nodes if each.domain == DOMAIN)
    limits = np.iinfo(dtype)
    assert [float(each.values) for each in list(node.inputs)[4:]] == [
        0.5 * (limits.min - 7),
        0.5 * (limits.max - 7),
    ]


def test_a_range_for_each_channel() -> None:
    text = """(float[1, 3, 4, 4] x) => (float[1, 3, 4, 4] y) {
        q = QuantizeLinear<axis = 1>(x, s, z)
        y = DequantizeLinear<axis = 1>(q, s, z) }"""
    scales = np.array([0.01, 0.02, 0.04], np.float32)
    original = proto(text, s=scales, z=np.array([0, 128, 255], np.uint8))
    model = load(original)
    node = next(each for each in model.graph.nodes if each.domain == DOMAIN)
    least, largest = (each.values for each in list(node.inputs)[4:])
    assert least.shape == largest.shape == (1, 3, 1, 1)
    np.testing.assert_allclose(least.ravel(), [0, -2.56, -10.2], rtol=1e-6)
    np.testing.assert_allclose(largest.ravel(), [2.55, 2.54, 0], rtol=1e-6)
    np.testing.assert_array_equal(run(model.proto(), x=X)[0], run(original, x=X)[0])


def test_other_steps_are_no_pair() -> None:
    """Read with another scale it is a product, too; nothing of ours is said of it."""
    text = """(float[1, 3, 4, 4] x) => (float[1, 3, 4, 4] y) {
        q = QuantizeLinear(x, s, z)
        y = DequantizeLinear(q, other, z) }"""
    assert not links(load(proto(text, **STEP, other=np.float32(0.5))))


def test_the_quantisation_of_the_runtimes_domain() -> None:
    text = """(float[1, 3, 4, 4] x) => (float[1, 3, 4, 4] y) {
        q = com.microsoft.QuantizeLinear(x, s, z)
        y = com.microsoft.DequantizeLinear(q, s, z) }"""
    original = proto(text, s=np.float32(0.01), z=np.uint16(30000))
    model = load(original)
    assert links(model) == ["x"]
    assert {each.domain for each in model.proto().graph.node} == {CONTRIB}
    np.testing.assert_array_equal(run(model.proto(), x=X)[0], run(original, x=X)[0])


def test_a_dequantize_weight_is_known() -> None:
    text = """(float[2, 3] x) => (float[2, 4] y) {
        w = DequantizeLinear<axis = 1>(whole, s, z)
        y = MatMul(x, w) }"""
    whole = np.arange(-6, 6, dtype=np.int8).reshape(3, 4)
    scales, zeros = np.array([0.1, 0.2, 0.3, 0.4], np.float32), np.array([0, 1, 2, 3], np.int8)
    model = load(proto(text, whole=whole, s=scales, z=zeros))
    found = constant_values(model.graph.tensors()["w"])
    assert found is not None
    np.testing.assert_array_equal(
        run(model.proto(), x=np.eye(2, 3, dtype=np.float32))[0], found[:2]
    )
    assert constant_values(model.graph.tensors()["y"]) is None
    assert model.graph.tensors()["whole"].values.nbytes == 12, "it stays as small as it was"


def test_dequantize_is_what_the_runtime_computes() -> None:
    draw = np.random.default_rng(0)
    whole: Array = draw.integers(0, 256, (4, 3, 2)).astype(np.uint8)
    scales, zeros = draw.random(3).astype(np.float32), draw.integers(0, 9, 3).astype(np.uint8)
    text = "(uint8[4, 3, 2] x) => (float[4, 3, 2] y) { y = DequantizeLinear<axis = 1>(x, s, z) }"
    tensors = load(proto(text, s=scales, z=zeros)).graph.tensors()
    found = dequantize((gs.Constant("w", whole), tensors["s"], tensors["z"]), 1)
    np.testing.assert_array_equal(run(proto(text, s=scales, z=zeros), x=whole)[0], found)


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
def test_no_mask_where_nothing_is_beyond_the_range(body: str, masks: int) -> None:
    """A gradient that does not depend on the picture is then seen not to."""
    text = f"""(float[1, 3, 4, 4] x) => (float[1, 3, 4, 4] y) {{
        {body} q = QuantizeLinear(a, s, z) y = DequantizeLinear(q, s, z) }}"""
    model = load(proto(text, s=np.float32(0.01), z=np.uint8(0)))
    told = [len(each.inputs) == 6 for each in model.graph.nodes if each.domain == DOMAIN]
    assert sum(told) == masks


@pytest.mark.parametrize("scale", [2e36, 3e37])
def test_ends_beyond_the_type_are_infinite(scale: float) -> None:
    """Of a scale that is finite; no warning tells of it."""
    text = ONE.format(shape="1, 3, 4, 4", moved="m = Identity(q)")
    model = load(proto(text, s=np.float32(scale), z=np.uint8(0)))
    (node,) = [each for each in model.graph.nodes if each.domain == DOMAIN]
    least, largest = (tensor.values for tensor in list(node.inputs)[4:])
    assert (least, largest) == (0, np.inf)
