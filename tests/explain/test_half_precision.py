"""float16 models: gradients in their precision, scaled so that they do not vanish, against float32 twins."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from PIL import Image

import onnxcam
from onnxcam.model.load import load
from onnxcam.rewrite import loss_scale
from onnxcam.rewrite.gradient import augment, gradient
from tests.autodiff.support.check import assert_valid
from tests.passes.support.parsed import run
from tests.support.nets import DEEP, FIXED, NHWC, POOLED, Net, random_images

X = random_images(3)


def convert_to_half(proto: onnx.ModelProto, inputs: bool = True) -> onnx.ModelProto:
    """The model with float16 weights and tensors; its input too, or cast after it."""
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    if inputs:
        for tensor_info in (*proto.graph.input, *proto.graph.output):
            tensor_info.type.tensor_type.elem_type = TensorProto.FLOAT16
        return proto
    name = proto.graph.input[0].name
    for node in proto.graph.node:
        node.input[:] = ["narrow" if read == name else read for read in node.input]
    last = proto.graph.node[-1]
    written = last.output[0]
    last.output[0] = "narrow_output"
    first = onnx.helper.make_node("Cast", [name], ["narrow"], to=TensorProto.FLOAT16)
    proto.graph.node.insert(0, first)
    proto.graph.node.append(onnx.helper.make_node("Cast", ["narrow_output"], [written], to=1))
    return proto


@pytest.mark.parametrize("inputs", [True, False])
@pytest.mark.parametrize("net", [POOLED, DEEP, NHWC, FIXED])
@pytest.mark.parametrize("method", ["grad-cam", "smooth-grad-cam++"])
def test_float16_map_agrees_with_float32(net: Net, method: str, inputs: bool) -> None:
    x = X.transpose(0, 2, 3, 1) if net is NHWC else X
    more: dict[str, Any] = {"samples": 6} if method.startswith("smooth") else {}
    ours, theirs = (
        onnxcam.Explainer(content, method, layer="features", device="cpu", **more)(x)
        for content in (
            convert_to_half(net.proto(), inputs).SerializeToString(),
            net.content(),
        )
    )
    assert ours.targets == theirs.targets
    assert ours.scores == pytest.approx(theirs.scores, abs=5e-3)
    for own, other in zip(ours.maps, theirs.maps, strict=True):
        assert other.max() > 0
        np.testing.assert_allclose(own, other, atol=2e-2 * float(other.max()))


def test_photograph_is_cast_to_half_precision() -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8))
    content = convert_to_half(DEEP.proto(), True).SerializeToString()
    for method in ("grad-cam", "smooth-grad-cam++"):
        explainer = onnxcam.Explainer(content, method, layer="features", device="cpu")
        assert np.isfinite(explainer(photo).maps).all()


FADING = """<ir_version: 9, opset_import: ["": 17]> net ({0}[N, 3] x) => ({0}[N, 2] y) {{
    early = Tanh(x)
    more = Mul(early, up)
    late = Mul(more, down)
    y = MatMul(late, w) }}"""
DOWN, UP = 2.0**-12, 2.0**12
W = np.array([[1, -1], [2, 0.5], [0.25, 1]], np.float32) * 2.0**-14


def fading(kind: str) -> onnx.ModelProto:
    """At `more` the gradient of one class at a neuron is 2^-26 or so, which float16 does not hold."""
    dtype = np.float16 if kind == "float16" else np.float32
    proto = onnx.parser.parse_model(FADING.format(kind))
    for name, value in (("up", UP), ("down", DOWN), ("w", W)):
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
    return proto


def slopes(kind: str) -> Any:
    """By onnx's evaluator, which rounds every value to float16, as a GPU does: ONNX Runtime's CPU provider
    computes in float32 between.
    """
    dtype = np.float16 if kind == "float16" else np.float32
    augmented = gradient(load(fading(kind)), ["x", "early", "more", "late"], "y").proto()
    assert_valid(augmented)
    x = np.array([[0.5, -0.25, 1.0], [0.0, 2.0, -1.0]], dtype)
    evaluator = ReferenceEvaluator(augmented)
    return evaluator.run(None, {"x": x, "seed": np.array([[1, 0], [0, 1]], np.float32)})[-4:]


def test_loss_scale_keeps_tiny_gradients() -> None:
    for ours, theirs in zip(slopes("float16"), slopes("float"), strict=True):
        assert ours.dtype == theirs.dtype == np.float32
        assert np.abs(theirs).min() > 0
        np.testing.assert_allclose(ours, theirs, rtol=5e-3)


def test_gradients_vanish_without_loss_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_scale, "SCALE", 1.0)
    at_x, at_early, at_more, _ = slopes("float16")
    for explanation in (at_x, at_early, at_more):
        assert np.mean(explanation == 0) > 0.3


def test_loss_scale_is_exact_and_only_for_float16() -> None:
    assert np.log2(loss_scale.SCALE) % 1 == 0
    plain = gradient(load(fading("float")), ["x"], "y")
    assert not any(node.op == "Cast" for node in plain.graph.nodes)
    assert not any(
        isinstance(values, np.ndarray) and loss_scale.SCALE in values
        for values in (getattr(t, "values", None) for t in plain.graph.tensors().values())
    )


def test_mixed_precision_is_scaled() -> None:
    """The score is float32; what lies between is not."""
    mixed = gradient(load(convert_to_half(POOLED.proto(), inputs=False)), ["features"], "logits")
    seed = mixed.graph.tensors()["seed"]
    assert seed.dtype == np.float32
    arrays = [getattr(tensor, "values", None) for tensor in mixed.graph.tensors().values()]
    assert any(array is not None and np.all(array == loss_scale.SCALE) for array in arrays)


def test_activation_keeps_its_dtype() -> None:
    augmented = augment(load(convert_to_half(DEEP.proto())), ["features"]).graph.tensors()
    assert augmented["activation/features"].dtype == np.float16
    assert augmented["gradient/features"].dtype == np.float32


def test_scatter_sums_of_float16_run_on_cpu() -> None:
    """Its ScatterElements with a sum refuses float16 when it is run."""
    text = """<ir_version: 9, opset_import: ["": 17]> net (float16[2, 4] x) => (float16[2, 3] y) {
        k = Constant<value = int64[3] {1, 1, 3}>()
        y = Gather<axis = 1>(x, k) }"""
    augmented = gradient(load(onnx.parser.parse_model(text)), ["x"], "y").proto()
    actual = run(augmented, x=np.ones((2, 4), np.float16), seed=np.ones((2, 3), np.float32))[-1]
    assert actual.tolist() == [[0, 2, 0, 1]] * 2
