"""Weights that are computed from the image: their share of the gradient is written, or the model is refused."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

import onnxcam
from onnxcam.arrays import Floats
from onnxcam.errors import MissingRuleError
from onnxcam.specs import SEED, gradient_at

SOURCES = {
    "Conv": "m = GlobalAveragePool(x) k = Mul(m, w) y = Conv(x, k)",
    "Conv's bias": "m = GlobalAveragePool(x) f = Flatten<axis = 3>(m) b = Squeeze(f) y = Conv(x, w, b)",
    "ConvTranspose": "m = GlobalAveragePool(x) k = Mul(m, w) y = ConvTranspose(x, k)",
    "BatchNormalization": (
        "m = GlobalAveragePool(x) s = Squeeze(m) y = BatchNormalization(x, s, one, one, one)"
    ),
    "BatchNormalization's variance": (
        "m = GlobalAveragePool(x) s = Squeeze(m) q = Mul(s, s) "
        "y = BatchNormalization(x, one, one, one, q)"
    ),
    "Pad": "m = ReduceMean<keepdims = 0>(x) y = Pad(x, p, m)",
}
CLIP = "m = ReduceMean<keepdims = 0>(x) y = Clip(x, , m)"
FIXED = "m = GlobalAveragePool(z) k = Mul(m, w) y = Conv(x, k)"


def _model(body: str, inputs: str = "") -> onnx.ModelProto:
    draw = np.random.default_rng(1)
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> g (float[1, 2, 4, 4] x{inputs}) => (float t) '
        f"{{ {body} r = Tanh(y) t = ReduceSum<keepdims = 0>(r) }}"
    )
    arrays = {
        "w": draw.normal(size=(2, 2, 1, 1)).astype(np.float32),
        "one": np.ones(2, np.float32),
        "p": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    }
    read = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in arrays.items() if name in read
    )
    return proto


def _gradient(proto: onnx.ModelProto, wrt: str, feeds: dict[str, Floats]) -> Floats:
    content = onnxcam.gradient(onnxcam.load(proto), [wrt], "t").bytes()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    (computed,) = session.run([gradient_at(wrt)], {**feeds, SEED: np.array(1, np.float32)})
    return np.asarray(computed)


def _check_slope(proto: onnx.ModelProto) -> tuple[Floats, Floats]:
    """Compare the gradient by x with differences of the plain model; returns x and the gradient."""
    draw = np.random.default_rng(2)
    x = draw.normal(size=(1, 2, 4, 4)).astype(np.float32)
    direction = draw.normal(size=x.shape).astype(np.float32)
    gradient = _gradient(proto, "x", {"x": x})
    plain = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    step = 1e-3
    ahead, back = (plain.run(None, {"x": x + sign * step * direction})[0] for sign in (1, -1))
    slope = float(ahead - back) / (2 * step)
    np.testing.assert_allclose(float(np.sum(gradient * direction)), slope, rtol=5e-3)
    return x, gradient


@pytest.mark.parametrize("name", SOURCES)
def test_computed_weights_are_refused_by_name(name: str) -> None:
    with pytest.raises(MissingRuleError, match="computed from the same input") as caught:
        onnxcam.gradient(onnxcam.load(_model(SOURCES[name])), ["x"], "t")
    assert list(caught.value.operators) == [name.partition("'")[0]]


def test_lstm_with_computed_weights_is_unrolled() -> None:
    body = (
        "s = Constant<value_ints = [4, 1, 8]>() f = Reshape(x, s) h = ReduceMean<keepdims = 1>(f) "
        "u = Constant<value_ints = [0]>() v = ReduceSum<keepdims = 1>(h, u) "
        "k = Mul(v, wide) y, last, cell = LSTM<hidden_size = 1>(f, k, deep)"
    )
    draw = np.random.default_rng(3)
    wide = numpy_helper.from_array(draw.normal(size=(1, 4, 8)).astype(np.float32), "wide")
    deep = numpy_helper.from_array(draw.normal(size=(1, 4, 1)).astype(np.float32), "deep")
    proto = _model(body)
    proto.graph.initializer.extend([wide, deep])
    _check_slope(proto)


def test_clip_with_computed_limit_is_decomposed() -> None:
    x, gradient = _check_slope(_model(CLIP))
    alone = _gradient(_model("m = Constant<value_float = 0.1>() y = Clip(x, , m)"), "x", {"x": x})
    assert not np.allclose(gradient, alone, atol=1e-2)  # the limit's share is large


def test_weights_computed_from_second_input_are_accepted() -> None:
    proto = _model(FIXED, ", float[1, 2, 4, 4] z")
    draw = np.random.default_rng(3)
    x, z = (draw.normal(size=(1, 2, 4, 4)).astype(np.float32) for _ in range(2))
    assert np.abs(_gradient(proto, "x", {"x": x, "z": z})).max() > 0


def test_layer_after_computed_weights_has_gradient() -> None:
    proto = _model(SOURCES["Conv"])
    x = np.random.default_rng(4).normal(size=(1, 2, 4, 4)).astype(np.float32)
    assert np.abs(_gradient(proto, "y", {"x": x})).max() > 0


def test_layer_beside_computed_weights_has_gradient() -> None:
    body = "m = GlobalAveragePool(x) k = Mul(m, w) a = Relu(x) y = Conv(a, k)"
    x = np.random.default_rng(5).normal(size=(1, 2, 4, 4)).astype(np.float32)
    assert np.abs(_gradient(_model(body), "a", {"x": x})).max() > 0
