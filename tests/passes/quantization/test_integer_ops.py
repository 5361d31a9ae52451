"""Operators on quantized numbers, decomposed: outputs within one quantization step, and gradients."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcam.graph.operators import CONTRIB
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import gradient
from tests.passes.support.parsed import run

DRAW = np.random.default_rng(3)
X = DRAW.normal(size=(2, 4, 6, 6)).astype(np.float32)
S, T, U = (np.float32(scale) for scale in (0.03, 0.05, 0.04))
Z, ZT, ZU = np.uint8(128), np.uint8(120), np.uint8(90)
QX, QT = ["x", "S", "Z"], ["y", "T", "ZT"]
SLICES = np.array([0.01, 0.02, 0.03, 0.005, 0.01], np.float32)


def ints(*shape: int, dtype: Any = np.int8, low: int = -100, high: int = 100) -> Any:
    return np.random.default_rng(list(shape)).integers(low, high, shape).astype(dtype)


def model(
    op: str, inputs: list[str], opset: int, domain: str = "", flat: bool = False, **settings: Any
) -> onnx.ModelProto:
    """x -> QuantizeLinear -> op -> DequantizeLinear -> y. Arrays in `settings` are constants, the others are
    attributes of the operator (`opset_attribute`: its attribute `opset`).
    """
    arrays = {n: v for n, v in settings.items() if isinstance(v, (np.ndarray, np.generic))}
    attributes = {name: value for name, value in settings.items() if name not in arrays}
    if "opset_attribute" in attributes:
        attributes["opset"] = attributes.pop("opset_attribute")
    arrays |= {"S": S, "Z": Z, "T": T, "ZT": ZT, "U": U, "ZU": ZU}
    names = [{"x": "q"}.get(name, name) for name in inputs]
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["f", "S", "Z"], ["q"]),
        onnx.helper.make_node(op, names, ["r"], domain=domain, **attributes),
        onnx.helper.make_node("DequantizeLinear", ["r", "T", "ZT"], ["y"]),
    ]
    flatten = onnx.helper.make_node("Flatten" if flat else "Identity", ["x"], ["f"])
    graph = onnx.helper.make_graph(
        [flatten, *nodes],
        "net",
        [onnx.helper.make_tensor_value_info("x", 1, X.shape)],
        [onnx.helper.make_tensor_value_info("y", 1, [None] * (2 if flat else 4))],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    imports = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid(CONTRIB, 1)]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=8)


W = {"w": ints(5, 4, 3, 3), "sw": np.float32(0.01), "zw": np.int8(0)}
M = {"w": ints(144, 5), "sw": np.float32(0.01), "zw": np.int8(3)}
SECOND = {"b": ints(2, 4, 6, 6, dtype=np.uint8, low=0, high=255)}
TT = ["T", "ZT"]
CASES: list[tuple[str, list[str], str, dict[str, Any]]] = [
    ("QLinearConv", [*QX, "w", "sw", "zw", *TT], "", {**W, "pads": [1, 1, 1, 1]}),
    (
        "QLinearConv",
        [*QX, "w", "sw", "zw", *TT, "b"],
        "",
        {**W, "sw": SLICES, "zw": np.zeros(5, np.int8), "b": ints(5, dtype=np.int32)},
    ),
    ("QLinearMatMul", [*QX, "w", "sw", "zw", *TT], "", {**M, "flat": True}),
    (
        "QLinearMatMul",
        [*QX, "w", "sw", "zw", *TT],
        "",
        {**M, "sw": SLICES, "zw": np.zeros(5, np.int8), "flat": True},
    ),
    (
        "QGemm",
        [*QX, "w", "sw", "zw", "b", *TT],
        CONTRIB,
        {**M, "b": ints(5, dtype=np.int32), "flat": True, "alpha": 1.0},
    ),
    (
        "QGemm",
        [*QX, "w", "sw", "zw", "", *TT],
        CONTRIB,
        {**M, "w": M["w"].T.copy(), "transB": 1, "flat": True},
    ),
    ("QLinearAdd", [*QX, "b", "U", "ZU", *TT], CONTRIB, SECOND),
    ("QLinearAdd", [*QX, *QX, *TT], CONTRIB, {}),
    ("QLinearMul", [*QX, "b", "U", "ZU", *TT], CONTRIB, SECOND),
    ("QLinearSigmoid", [*QX, *TT], CONTRIB, {}),
    ("QLinearLeakyRelu", [*QX, *TT], CONTRIB, {"alpha": 0.1}),
    ("QLinearGlobalAveragePool", [*QX, *TT], CONTRIB, {"channels_last": 0}),
    ("QLinearAveragePool", [*QX, *TT], CONTRIB, {"kernel_shape": [3, 3], "strides": [2, 2]}),
    ("QLinearGlobalAveragePool", [*QX, *TT], CONTRIB, {"channels_last": 1}),
    ("QLinearAveragePool", [*QX, *TT], CONTRIB, {"kernel_shape": [3, 3], "channels_last": 1}),
    ("QLinearSoftmax", [*QX, *TT], CONTRIB, {"axis": -1, "opset_attribute": 13}),
    (
        "QLinearWhere",
        ["chosen", *QX, "b", "U", "ZU", *TT],
        CONTRIB,
        {**SECOND, "chosen": ints(2, 4, 6, 6) > 0},
    ),
    ("QLinearConcat", [*TT, *QX, "b", "U", "ZU"], CONTRIB, {**SECOND, "axis": 1}),
]


@pytest.mark.parametrize(("op", "inputs", "domain", "settings"), CASES)
@pytest.mark.parametrize("opset", [12, 17])
def test_decomposition_is_within_one_step_and_differentiable(
    op: str, inputs: list[str], domain: str, settings: dict[str, Any], opset: int
) -> None:
    original = model(op, inputs, opset, domain, **settings)
    loaded = load(original)
    assert not any(node.op.startswith(("QLinear", "QGemm")) for node in loaded.graph.nodes)
    expected, actual = run(original, x=X)[0], run(loaded.proto(), x=X)[0]
    assert np.ptp(expected) > 2 * T or op in ("QLinearSigmoid", "QLinearSoftmax"), (
        "too few steps to compare"
    )
    assert np.abs(actual - expected).max() <= 1.01 * T
    assert np.mean(actual != expected) < 0.02
    augmented = gradient(loaded, ["x"], "y").proto()
    slope = run(augmented, x=X, seed=np.ones_like(expected))[-1]
    assert slope.shape == X.shape
    assert np.isfinite(slope).all()
    assert op == "QLinearSoftmax" or np.abs(slope).max() > 0


@pytest.mark.parametrize("dynamic", [False, True])
def test_sums_of_integers_are_exact_and_differentiable(dynamic: bool) -> None:
    """As onnxruntime.quantization.quantize_dynamic writes a convolution."""
    make = onnx.helper.make_node
    first = make("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
    constants = {"w": W["w"], "sw": np.float32(0.01), "zw": np.int8(2)}
    if not dynamic:
        first = make("QuantizeLinear", ["x", "s", "z"], ["q"])
        constants |= {"s": S, "z": Z}
    nodes = [
        first,
        make("ConvInteger", ["q", "w", "z", "zw"], ["sums"], pads=[1, 1, 1, 1]),
        make("Cast", ["sums"], ["floats"], to=1),
        make("Mul", ["s", "sw"], ["step"]),
        make("Mul", ["floats", "step"], ["y"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "net",
        [onnx.helper.make_tensor_value_info("x", 1, X.shape)],
        [onnx.helper.make_tensor_value_info("y", 1, [None] * 4)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    imports = [onnx.helper.make_opsetid("", 17)]
    original = onnx.helper.make_model(graph, opset_imports=imports, ir_version=8)
    loaded = load(original)
    expected, actual = run(original, x=X)[0], run(loaded.proto(), x=X)[0]
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    slope = run(gradient(loaded, ["x"], "y").proto(), x=X, seed=np.ones_like(expected))[-1]
    w = 0.01 * (W["w"].astype(np.float32) - 2)
    inner = slope[:, :, 1:-1, 1:-1]
    np.testing.assert_allclose(
        inner, np.broadcast_to(w.sum((0, 2, 3))[None, :, None, None], inner.shape), rtol=1e-4
    )
