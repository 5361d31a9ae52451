"""FullGrad: gradients at all biases."""

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.errors import ModelError, SettingError
from tests.methods.support import layer_twins
from tests.methods.support.compare import TARGET, X, assert_close, explain, stack
from tests.support.layered_nets import CURVED, PIECEWISE
from tests.support.nets import random_images

HEAD = '<ir_version: 9, opset_import: ["": 17]> net (float[N, 3, 8, 8] x) => (float[N, 4] y) {'
CONSTANTS = {
    "mean": (1, 3, 1, 1),
    "w": (4, 3, 3, 3),
    "b": (4,),
    "gamma": (4,),
    "beta": (4,),
    "mu": (4,),
    "t": (4, 4, 2, 2),
    "p": (1, 4, 14, 14),
    "v": (4, 4),
    "d": (4,),
}
ALL_KINDS = """
    centered = Sub(x, mean) c = Conv(centered, w, b)
    n = BatchNormalization<epsilon = 0.01>(c, gamma, beta, mu, variance) r = Relu(n)
    wide = ConvTranspose<strides = [2, 2]>(r, t, b) {crop} placed = Add(p, wide) s = Relu(placed)
    pooled = GlobalAveragePool(s) flat = Flatten(pooled) h = Gemm<beta = 2.0>(flat, v, d)
    a = Relu(h) m = MatMul(a, v) z = Add(m, d) y = Sub(d, z) }}"""


def with_all_kinds() -> bytes:
    """A piecewise linear net with a constant of every kind that is added."""
    text = HEAD + ALL_KINDS.format(crop="").replace("Add(p, wide)", "Add(q, wide)")
    proto = onnx.parser.parse_model(text)
    draw = np.random.default_rng(2)
    arrays = {name: draw.normal(size=shape) for name, shape in CONSTANTS.items()}
    arrays |= {"variance": draw.uniform(0.5, 2, 4), "q": draw.normal(size=(1, 4, 12, 12))}
    read = {name for node in proto.graph.node for name in node.input}
    for name in arrays.keys() & read:
        array = onnx.numpy_helper.from_array(arrays[name].astype(np.float32), name)
        proto.graph.initializer.append(array)
    return bytes(proto.SerializeToString())


def test_map_equals_twin() -> None:
    assert_close(explain("full-grad", PIECEWISE).maps, stack(layer_twins.full_grad, PIECEWISE))


def test_terms_of_piecewise_linear_net_add_up_to_score() -> None:
    for facts in explain("full-grad", PIECEWISE).facts:
        assert facts["completeness_gap"] < 1e-5


def test_every_kind_of_constant_is_a_bias() -> None:
    explainer = onnxcam.Explainer(with_all_kinds(), "full-grad", device="cpu", cache=False)
    names = [layer.name for layer in explainer.plan.layers]
    assert names == ["centered", "c", "n", "wide", "placed", "h", "z", "y"]
    for target in (TARGET, "not 1", "1-2"):
        for facts in explainer(X, target).facts:
            assert facts["completeness_gap"] < 1e-4


def test_gap_of_curved_net_is_reported() -> None:
    explanation = explain("full-grad", CURVED)
    assert all(facts["completeness_gap"] > 0.01 for facts in explanation.facts)
    assert "completeness_gap" in explanation.manifest()["facts"]


def test_tensor_of_windows_counts_in_score_but_not_in_map() -> None:
    """Attention in windows is (N windows, heads, cells, cells): its position bias has no place in the map."""
    text = (
        HEAD
        + """c = Conv(x, w, b) shape = Constant<value_ints = [-1, 1, 6, 6]>()
        windows = Reshape(c, shape) placed = Add(windows, q) back = Constant<value_ints = [-1, 4, 6, 6]>()
        joined = Reshape(placed, back) r = Relu(joined) p = GlobalAveragePool(r) y = Flatten(p) }"""
    )
    draw = np.random.default_rng(3)
    shapes = {"w": (4, 3, 3, 3), "b": (4,), "q": (1, 1, 6, 6)}
    arrays = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    proto = onnx.parser.parse_model(text)
    for name, array in arrays.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    explainer = onnxcam.Explainer(bytes(proto.SerializeToString()), "full-grad", device="cpu")
    explanation = explainer(X, TARGET)
    assert explanation.layers == ("c", "placed")
    assert all(facts["completeness_gap"] < 1e-5 for facts in explanation.facts)
    assert explanation.maps.max() <= 3 + 4  # psi of the image and of c is 1 at most in a channel


def test_model_without_biases_is_refused() -> None:
    text = HEAD + "c = Conv(x, w) r = Relu(c) p = GlobalAveragePool(r) y = Flatten(p) }"
    proto = onnx.parser.parse_model(text)
    array = random_images(4, (3, 3, 3))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(array, "w"))
    with pytest.raises(ModelError, match="has no biases; use another method"):
        onnxcam.Explainer(bytes(proto.SerializeToString()), "full-grad", device="cpu")


def test_layer_is_refused() -> None:
    with pytest.raises(SettingError, match="full-grad, which has no layer to choose"):
        explain("full-grad", PIECEWISE, layer="features")
