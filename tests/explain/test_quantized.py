"""Quantized models end to end, against the float models that they were made from."""

from typing import Any

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.arrays import Floats
from tests.passes.support.parsed import parse
from tests.support.nets import DEEP, random_images

METHODS = ["grad-cam", "grad-cam++", "smooth-grad-cam++"]
FLOATS = DEEP.weights
LAST = "features_q/float"  # what the integers that are flattened stand for
RANGES = {"x": 8.0, "early": 4.0, "features": 3.0, "active": 4.0, "logits": 8.0}  # as calibrated


def quantized_weights() -> dict[str, Any]:
    """int8 weights with a scale per output channel."""
    explanation: dict[str, Any] = {}
    for name in ("w1", "w2", "u", "v"):
        w = FLOATS[name]
        scale = np.abs(w).reshape(len(w), -1).max(1) / 127
        shape = (-1, *[1] * (w.ndim - 1))
        explanation[name] = np.rint(w / scale.reshape(shape)).astype(np.int8)
        explanation[f"{name}_s"] = scale.astype(np.float32)
        explanation[f"{name}_z"] = np.zeros(len(w), np.int8)
    for name, width in RANGES.items():
        signed = name in ("x", "logits")
        explanation[f"{name}_s"] = np.float32(width / 255)
        explanation[f"{name}_z"] = np.uint8(128 if signed else 0)
    explanation |= {name: FLOATS[name] for name in ("b1", "b2", "e", "d")}
    return explanation


def pair(name: str, of: str) -> str:
    return f"""
    {name}_q = QuantizeLinear({of}, {name}_s, {name}_z)
    {name} = DequantizeLinear({name}_q, {name}_s, {name}_z)"""


def weights(*names: str) -> str:
    return "".join(f"\n    {n}_f = DequantizeLinear<axis = 0>({n}, {n}_s, {n}_z)" for n in names)


QDQ = f"""
    {weights("w1", "w2", "u", "v")} {{lead}}
    c1 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x_d, w1_f, b1)
    r1 = Relu(c1) {pair("early", "r1")}
    c2 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(early, w2_f, b2)
    r2 = Relu(c2)
    features_q = QuantizeLinear(r2, features_s, features_z)
    flat_q = Flatten(features_q)
    flat = DequantizeLinear(flat_q, features_s, features_z)
    hidden = Gemm<transB = 1>(flat, u_f, e)
    r3 = Relu(hidden) {pair("active", "r3")}
    raw = Gemm<transB = 1>(active, v_f, d)
    {{tail}}"""
FLOAT_IN = "x_q = QuantizeLinear(x, x_s, x_z) x_d = DequantizeLinear(x_q, x_s, x_z)"
INTEGERS_IN = "x_d = DequantizeLinear(x, x_s, x_z)"
FLOAT_OUT = pair("logits", "raw") + " probabilities = Softmax<axis = -1>(logits)"
INTEGERS_OUT = (
    pair("logits", "raw")
    + " p = Softmax<axis = -1>(logits) probabilities = QuantizeLinear(p, p_s, active_z)"
)


def quantized_model(integers: bool, batch: str = "N", opset: int = 17) -> onnx.ModelProto:
    kinds = ("uint8", "uint8") if integers else ("float", "float")
    lead, tail = (INTEGERS_IN, INTEGERS_OUT) if integers else (FLOAT_IN, FLOAT_OUT)
    text = f"""({kinds[0]}[{batch}, 3, 8, 8] x) => ({kinds[1]}[{batch}, 5] probabilities)
        {{ {QDQ.format(lead=lead, tail=tail)} }}"""
    used = quantized_weights() | ({"p_s": np.float32(1 / 255)} if integers else {})
    return parse(text, opset, **used)


X = np.clip(random_images(3), -4, 3.9)
INTEGERS = np.clip(np.rint(X / (8 / 255)) + 128, 0, 255)


def explain(content: Any, x: Floats, method: str, **options: Any) -> onnxcam.Explanation:
    options |= {"samples": 8} if method.startswith("smooth") else {}
    options.setdefault("layer", "features")
    return onnxcam.Explainer(content, method, device="cpu", **options)(x, target="top1")


def assert_correlated(ours: onnxcam.Explanation, theirs: onnxcam.Explanation, least: float) -> None:
    for own, other in zip(ours.maps, theirs.maps, strict=True):
        assert other.max() > 0
        assert np.corrcoef(own.ravel(), other.ravel())[0, 1] > least


@pytest.mark.parametrize("method", METHODS)
def test_quantized_map_agrees_with_float_model(method: str) -> None:
    ours = explain(quantized_model(integers=False).SerializeToString(), X, method)
    theirs = explain(DEEP.content(), X, method)
    assert ours.scores == pytest.approx(theirs.scores, abs=0.1)
    assert_correlated(ours, theirs, 0.98)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch", ["N", "1"])
def test_integer_input_and_output_are_explained(method: str, batch: str) -> None:
    """With uint8 images and uint8 probabilities, layers lie after the input and scores before the output."""
    ours = explain(
        quantized_model(integers=True, batch=batch).SerializeToString(), INTEGERS, method
    )
    theirs = explain(DEEP.content(), X, method)
    assert ours.scores == pytest.approx(theirs.scores, abs=0.1)
    assert_correlated(ours, theirs, 0.9 if method.startswith("smooth") else 0.98)


def test_automatic_layer_is_last_float_layer() -> None:
    content = quantized_model(integers=True).SerializeToString()
    assert onnxcam.Explainer(content, "grad-cam", device="cpu").plan.layers[0].name == LAST


def test_layers_hold_floats_only() -> None:
    names = [layer.name for layer in onnxcam.layers(onnxcam.load(quantized_model(integers=False)))]
    assert {"early", "c1", "r1", "c2", "r2", LAST} <= set(names)
    assert not any(name.endswith("_q") for name in names), "integers"


def test_score_beyond_quantized_range_is_explained() -> None:
    """The score is taken before rounding: after it, a score at the end of the range has no gradient."""
    model = quantized_model(integers=False)
    for tensor in model.graph.initializer:
        if tensor.name == "logits_s":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32(1e-4), "logits_s"))
    ours = explain(model.SerializeToString(), X, "grad-cam")
    assert_correlated(ours, explain(DEEP.content(), X, "grad-cam"), 0.98)
