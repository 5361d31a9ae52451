"""Models that ONNX Runtime optimized have the gradients of the original models."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from onnxcam.errors import MissingRuleError
from onnxcam.graph.operators import CONTRIB
from onnxcam.model.load import load
from onnxcam.passes.ort.registry import NCHWC
from onnxcam.rewrite.gradient import gradient
from tests.passes.support.parsed import run

CONVOLUTIONS = """
    c1 = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, w1, b1)
    r1 = Relu(c1)
    c2 = Conv<group = 32, pads = [1, 1, 1, 1]>(r1, w2, b2)
    r2 = Clip(c2, low, high)
    c3 = Conv(r2, w3, b3)
    s = Add(c3, r1)
    m = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(s)
    g = GlobalAveragePool(m)
    g1 = Conv(g, w4, b4)
    g2 = Relu(g1)
    g3 = Conv(g2, w5, b5)
    g4 = HardSigmoid<alpha = 0.3>(g3)
    e = Mul(m, g4)
    l1 = Conv(e, w6)
    l = LeakyRelu<alpha = 0.1>(l1)
    u = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">
        (l, region, scales)
    t = Concat<axis = 1>(u, r1)
    v = Conv(t, w7)
    i = Sigmoid(v)
    si = Mul(v, i)
    p = AveragePool<kernel_shape = [2, 2]>(si)
    f = GlobalAveragePool(p)
    k = Flatten(f)
    y = Gemm<transB = 1>(k, head, bias)
"""
TRANSFORMER = """
    c = Conv<strides = [4, 4]>(x, w0, b0)
    r = Reshape(c, flat)
    t0 = Transpose<perm = [0, 2, 1]>(r)
    mean = ReduceMean<axes = [-1]>(t0)
    away = Sub(t0, mean)
    square = Pow(away, two)
    variance = ReduceMean<axes = [-1]>(square)
    above = Add(variance, epsilon)
    deviation = Sqrt(above)
    normal = Div(away, deviation)
    scaled = Mul(normal, gamma)
    n = Add(scaled, beta)
    q0 = MatMul(n, wq)
    q1 = Reshape(q0, split)
    q = Transpose<perm = [0, 2, 1, 3]>(q1)
    k0 = MatMul(n, wk)
    k1 = Reshape(k0, split)
    kt = Transpose<perm = [0, 2, 3, 1]>(k1)
    v0 = MatMul(n, wv)
    v1 = Reshape(v0, split)
    v = Transpose<perm = [0, 2, 1, 3]>(v1)
    qk = MatMul(q, kt)
    small = Mul(qk, tenth)
    soft = Softmax<axis = -1>(small)
    at = MatMul(soft, v)
    a1 = Transpose<perm = [0, 2, 1, 3]>(at)
    a2 = Reshape(a1, join)
    t = Add(t0, a2)
    h0 = MatMul(t, wh)
    h = Add(h0, bh)
    z = Div(h, root)
    erf = Erf(z)
    half = Add(erf, one)
    up = Mul(h, half)
    gelu = Mul(up, point5)
    sg = Sigmoid(gelu)
    si = Mul(gelu, sg)
    o = ReduceMean<axes = [1], keepdims = 0>(si)
    y = MatMul(o, head)
"""


def floats(*shape: int) -> Any:
    fan = np.prod(shape[1:]) if len(shape) > 1 else 10
    return (np.random.default_rng(list(shape)).normal(size=shape) / np.sqrt(fan)).astype(np.float32)


def number(value: float) -> Any:
    return np.array(value, np.float32)


WEIGHTS: dict[str, dict[str, Any]] = {
    "convolutions": {
        "w1": floats(32, 3, 3, 3),
        "b1": floats(32),
        "w2": floats(32, 1, 3, 3),
        "b2": floats(32),
        "low": number(0),
        "high": number(0.4),
        "w3": floats(32, 32, 1, 1),
        "b3": floats(32),
        "w4": floats(12, 32, 1, 1),
        "b4": floats(12),
        "w5": floats(32, 12, 1, 1),
        "b5": floats(32),
        "w6": floats(40, 32, 1, 1),
        "region": np.zeros(0, np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "w7": floats(40, 72, 1, 1),
        "head": floats(5, 40),
        "bias": floats(5),
    },
    "transformer": {
        "w0": floats(12, 3, 4, 4),
        "b0": floats(12),
        "flat": np.array([0, 12, -1]),
        "two": number(2),
        "epsilon": number(1e-5),
        "gamma": floats(12),
        "beta": floats(12),
        "wq": floats(12, 12),
        "wk": 1 + floats(12, 12),
        "wv": floats(12, 12) - 1,
        "split": np.array([0, 0, 3, 4]),
        "join": np.array([0, 0, 12]),
        "tenth": number(0.1),
        "wh": floats(12, 20),
        "bh": floats(20),
        "root": number(2**0.5),
        "one": number(1),
        "point5": number(0.5),
        "head": floats(20, 5),
    },
}
TEXTS = {"convolutions": CONVOLUTIONS, "transformer": TRANSFORMER}


def net(name: str, opset: int) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": {opset}]>
        net (float[N, 3, 16, 16] x) => (float[N, 5] y) {{ {TEXTS[name]} }}"""
    )
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), key) for key, array in WEIGHTS[name].items()
    )
    return proto


def optimize(proto: onnx.ModelProto, path: Path, level: str) -> onnx.ModelProto:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3  # that the file is for this processor
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = getattr(levels, f"ORT_ENABLE_{level}")
    onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return onnx.load(path)


def domains(proto: onnx.ModelProto) -> set[str]:
    return {node.domain for node in proto.graph.node}


def slope(proto: onnx.ModelProto, **feed: Any) -> Any:
    augmented = gradient(load(proto), ["x"], "y").proto()
    assert domains(augmented) == {""}
    return run(augmented, **feed)[-1]


FEED = {
    "x": np.random.default_rng(5).normal(size=(2, 3, 16, 16)).astype(np.float32),
    "seed": np.random.default_rng(6).normal(size=(2, 5)).astype(np.float32),
}


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("level", ["EXTENDED", "ALL"])
@pytest.mark.parametrize("name", list(TEXTS))
def test_gradient_equals_that_of_the_original(
    name: str, level: str, opset: int, tmp_path: Path
) -> None:
    original = net(name, opset)
    optimized = optimize(original, tmp_path / "optimized.onnx", level)
    written = domains(optimized)
    expected = NCHWC if (name, level) == ("convolutions", "ALL") else CONTRIB
    if name == "transformer":
        normalizations = {n.op_type for n in optimized.graph.node if "Norm" in n.op_type}
        assert normalizations & {"LayerNormalization", "SimplifiedLayerNormalization"}
    if expected == NCHWC and expected not in written:
        pytest.skip("the runtime stores no channels in blocks on this kind of processor")
    assert expected in written, "nothing was fused, so that nothing is tested"
    expected = slope(original, **FEED)
    np.testing.assert_allclose(slope(optimized, **FEED), expected, atol=2e-6 * abs(expected).max())


@pytest.mark.parametrize("level", ["EXTENDED", "ALL"])
def test_gradient_of_quantized_model(level: str, tmp_path: Path) -> None:
    """Convolutions between quantized tensors, which the runtime computes with the channels last."""
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        net (float[N, 3, 16, 16] x) => (float[N, 5] y) {
            qx = QuantizeLinear(x, s, z) dx = DequantizeLinear(qx, s, z)
            dw = DequantizeLinear<axis = 0>(w, t, zt) c = Conv<pads = [1, 1, 1, 1]>(dx, dw) r = Relu(c)
            qr = QuantizeLinear(r, s, z) dr = DequantizeLinear(qr, s, z)
            m = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(dr)
            qm = QuantizeLinear(m, s, z) dm = DequantizeLinear(qm, s, z)
            dv = DequantizeLinear<axis = 0>(v, t5, zt5) e = Conv(dm, dv)
            qe = QuantizeLinear(e, s, z) de = DequantizeLinear(qe, s, z)
            p = GlobalAveragePool(de) y = Flatten(p)
        }"""
    )
    draw = np.random.default_rng(3)
    arrays = {"s": number(0.02), "z": np.array(120, np.uint8)}
    for name, zero, shape in (("w", "zt", (8, 3, 3, 3)), ("v", "zt5", (5, 8, 1, 1))):
        arrays[name] = draw.integers(-120, 120, shape).astype(np.int8)
        arrays[zero] = np.zeros(shape[0], np.int8)
        arrays[zero[1:]] = (0.001 + 0.002 * draw.random(shape[0])).astype(np.float32)
    proto.graph.initializer.extend(numpy_helper.from_array(array, n) for n, array in arrays.items())
    optimized = optimize(proto, tmp_path / "quantized.onnx", level)
    last = [
        n for n in optimized.graph.node for a in n.attribute if a.name == "channels_last" and a.i
    ]
    assert bool(last) == (level == "ALL"), "no channels were last, so that nothing is tested"
    assert not any(node.op.startswith("QLinear") for node in load(optimized).graph.nodes)
    expected = slope(proto, **FEED)
    np.testing.assert_allclose(slope(optimized, **FEED), expected, atol=2e-6 * abs(expected).max())


def test_gradient_of_half_precision_model(tmp_path: Path) -> None:
    """A transformer of half precision, whose statistics are of float32."""
    proto = net("transformer", 17)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for tensor in (proto.graph.input[0], proto.graph.output[0]):
        tensor.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    optimized = optimize(proto, tmp_path / "half.onnx", "EXTENDED")
    feed = {**FEED, "x": FEED["x"].astype(np.float16)}
    expected = slope(net("transformer", 17), **FEED)
    np.testing.assert_allclose(slope(optimized, **feed), expected, atol=5e-3 * abs(expected).max())


# Forms that stay as they are


def model_of(
    operator: str, inputs: list[str], outputs: list[str], **attributes: Any
) -> onnx.ModelProto:
    node = onnx.helper.make_node(operator, inputs, outputs, domain=CONTRIB, **attributes)
    ends = [
        onnx.helper.make_node("Relu", ["x"], ["r"]),
        node,
        onnx.helper.make_node("Relu", ["o"], ["y"]),
    ]
    arrays = {"w": floats(12, 36), "m": np.array([2, 4], np.int32), "past": floats(2, 2, 2, 3, 6)}
    arrays |= {"scale": floats(12), "bias": floats(36), "extra": floats(12)}
    graph = onnx.helper.make_graph(
        ends,
        "net",
        [onnx.helper.make_tensor_value_info("x", 1, [2, 4, 12])],
        [onnx.helper.make_tensor_value_info("y", 1, [2, 4, 12])],
        [numpy_helper.from_array(array, n) for n, array in arrays.items() if n in inputs],
        value_info=[onnx.helper.make_tensor_value_info("o", 1, [2, 4, 12])],
    )
    imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(CONTRIB, 1)]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=8)


@pytest.mark.parametrize(
    ("operator", "inputs", "outputs", "attributes"),
    [
        ("Attention", ["r", "w", "bias", "", "past"], ["o", "present"], {"num_heads": 2}),
        ("Attention", ["r", "w", "bias"], ["o"], {"num_heads": 2, "do_rotary": 1}),
        ("Attention", ["r", "w", "bias", "m"], ["o"], {"num_heads": 2}),
        ("Gelu", ["r"], ["o"], {"novelty": 1}),
        ("SkipLayerNormalization", ["r", "r", "scale", "", "", "", "extra"], ["o"], {}),
        ("ComplexMul", ["r", "r"], ["o"], {}),
    ],
)
def test_unsupported_form_is_named_if_a_gradient_needs_it(
    operator: str, inputs: list[str], outputs: list[str], attributes: dict[str, Any]
) -> None:
    loaded = load(model_of(operator, inputs, outputs, **attributes))
    with pytest.raises(MissingRuleError, match=f"{CONTRIB}::{operator} \\(o\\)"):
        gradient(loaded, ["x"], "y")
    assert gradient(loaded, ["o"], "y").proto().graph.node, "gradients pass after it"


def test_outputs_of_fused_operators_keep_their_names() -> None:
    loaded = load(model_of("Gelu", ["r"], ["o"]))
    assert {"r", "o", "y"} <= loaded.graph.tensors().keys()
    assert all(node.name.startswith("o") for node in loaded.graph.nodes[1:-1])
