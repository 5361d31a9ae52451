"""Images without a batch or channel axis, and flat ones, are explained as by the model with four axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

import onnxcam
from onnxcam.errors import ModelError, SettingError
from onnxcam.model.image_axes import for_images
from onnxcam.model.image_input import image_input
from onnxcam.model.load import load

TRUNK = """r = Conv<pads = [1, 1, 1, 1]>(image, k{channels}) maps = Relu(r)
    s = GlobalAveragePool(maps) f = Flatten(s) t = Tanh(f) logits = MatMul(t, v)"""
DRAW = np.random.default_rng(0)
WEIGHTS = {
    "k1": DRAW.normal(size=(4, 1, 3, 3)).astype(np.float32),
    "k3": DRAW.normal(size=(4, 3, 3, 3)).astype(np.float32),
    "v": DRAW.normal(size=(4, 5)).astype(np.float32),
    "first": np.array([0]),
    "both": np.array([0, 1]),
    "second": np.array([1]),
    "nchw": np.array([-1, 3, 6, 8]),
    "one": np.array([1, 3, 6, 8]),
    "nhwc": np.array([0, 6, 8, 3]),
    "gray": np.array([-1, 6, 8]),
}
LAST, ROW = "float[N, 5] logits", "float[1, 5] logits"
VECTOR = "float[5] scores"
SQUEEZE = " scores = Squeeze(logits, first)"
UNSQUEEZED = "image = Unsqueeze(x, first) "
LAST_TO_SECOND = "image = Transpose<perm = [0, 3, 1, 2]>(n) "
FORMS: dict[str, tuple[str, str, str, str, int, str]] = {
    # the input, what comes before and after the trunk, the output, the channels, the layout that is expected
    "CHW": ("3, 6, 8", UNSQUEEZED, "", ROW, 3, "NCHW"),
    "CHW to a vector": ("3, 6, 8", UNSQUEEZED, SQUEEZE, VECTOR, 3, "NCHW"),
    "CHW of any size": ("3, H, W", UNSQUEEZED, SQUEEZE, VECTOR, 3, "NCHW"),
    "HWC": ("6, 8, 3", "n = Unsqueeze(x, first) " + LAST_TO_SECOND, SQUEEZE, VECTOR, 3, "NHWC"),
    "HWC of any size": ("H, W, 3", "n = Unsqueeze(x, first) " + LAST_TO_SECOND, "", ROW, 3, "NHWC"),
    "gray rows": ("N, 6, 8", "image = Unsqueeze(x, second) ", "", LAST, 1, "NCHW"),
    "gray image": ("6, 8", "image = Unsqueeze(x, both) ", SQUEEZE, VECTOR, 1, "NCHW"),
    "flat": ("N, 144", "image = Reshape(x, nchw) ", "", LAST, 3, "NCHW"),
    "flat and fixed": ("1, 144", "image = Reshape(x, nchw) ", "", ROW, 3, "NCHW"),
    "flat, channels last": ("N, 144", "n = Reshape(x, nhwc) " + LAST_TO_SECOND, "", LAST, 3, "NHWC"),
    "flat and gray": ("N, 48", "g = Reshape(x, gray) image = Unsqueeze(g, second) ", "", LAST, 1, "NCHW"),
    "one flat image": ("144", "image = Reshape(x, one) ", SQUEEZE, VECTOR, 3, "NCHW"),
}  # fmt: skip


def network(shape: str, before: str, after: str, output: str, channels: int) -> bytes:
    trunk = TRUNK.format(channels=channels)
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> net (float[{shape}] x) => ({output}) '
        f"{{ {before}{trunk}{after} }}"
    )
    read = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in WEIGHTS.items() if name in read
    )
    return bytes(proto.SerializeToString())


def plain(channels: int) -> bytes:
    return network(f"N, {channels}, 6, 8", "image = Identity(x) ", "", LAST, channels)


def images_of(channels: int, layout: str) -> tuple[Any, Any]:
    """Two images in NCHW, and in the layout of the model."""
    images = np.random.default_rng(1).normal(size=(2, channels, 6, 8)).astype(np.float32)
    return images, images if layout == "NCHW" else np.moveaxis(images, 1, -1)


@pytest.mark.parametrize("form", FORMS)
def test_form_is_explained_like_the_model_of_four_axes(form: str) -> None:
    shape, before, after, output, channels, layout = FORMS[form]
    images, arranged = images_of(channels, layout)
    content = network(shape, before, after, output, channels)
    maps = []
    for model, array in ((content, arranged), (plain(channels), images)):
        for method, layer in (("grad-cam", "maps"), ("saliency", "auto")):
            explainer = onnxcam.Explainer(model, method, layer, device="cpu", cache=False)
            explanation = explainer(array, "top1")
            maps.append((explanation.maps, explanation.scores, explainer.notices))
    for (actual, scores, notices), (expected, right, _) in zip(maps[:2], maps[2:], strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(scores, right, rtol=1e-5)
        assert any(notice.startswith("the input 'x' (") for notice in notices)
    image = image_input(for_images(load(content)))
    assert (image.layout, image.channels) == (layout, channels)


@pytest.mark.parametrize("opset", [9, 12, 17])
def test_values_are_those_of_the_exported_model(opset: int) -> None:
    attributes = opset < 13
    squeeze = "Squeeze<axes = [0]>(logits)" if attributes else "Squeeze(logits, first)"
    unsqueeze = "Unsqueeze<axes = [0]>(x)" if attributes else "Unsqueeze(x, first)"
    content = network("3, 6, 8", f"image = {unsqueeze} ", f" scores = {squeeze}", VECTOR, 3)
    proto = onnx.load_from_string(content)
    proto.opset_import[0].version = opset
    image = images_of(3, "NCHW")[0][:1]
    original = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    loaded = ort.InferenceSession(
        for_images(load(proto)).bytes(), providers=["CPUExecutionProvider"]
    )
    (expected,) = original.run(None, {"x": image[0]})
    (actual,) = loaded.run(["scores"], {"x": image})
    assert actual.shape == (1, 5)
    np.testing.assert_allclose(actual[0], expected, rtol=1e-6)


MLP = '<ir_version: 8, opset_import: ["": 17]> net ({kind}[{shape}] x) => (float[{out}] y) {{ {body} }}'


def perceptron(shape: str, rows: int, out: str = "N, 5", kind: str = "float") -> onnx.ModelProto:
    body = "h = MatMul(x, w) y = Relu(h)"
    if kind != "float":
        body = f"c = Cast<to = 1>(x) {body.replace('(x', '(c')}"
    proto = onnx.parser.parse_model(MLP.format(kind=kind, shape=shape, out=out, body=body))
    weights = np.random.default_rng(2).normal(size=(rows, 5)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    return proto


@pytest.mark.parametrize(("count", "channels"), [(48, 1), (144, 3), (192, 4)])
def test_flat_images_get_the_grid_of_the_size(count: int, channels: int) -> None:
    content = perceptron(f"N, {count}", count).SerializeToString()
    image = np.random.default_rng(3).normal(size=(1, channels, 6, 8)).astype(np.float32)
    explainer = onnxcam.Explainer(
        content, "gradient-x-input", pixels={"size": (6, 8)}, device="cpu", cache=False
    )
    attributions = explainer(image, 2).attributions
    assert attributions is not None
    weights = numpy_helper.to_array(onnx.load_from_string(content).graph.initializer[0])
    is_positive = float(image.ravel() @ weights[:, 2]) > 0
    expected = image * weights[:, 2].reshape(image.shape) * is_positive
    np.testing.assert_allclose(attributions, expected, rtol=1e-5, atol=1e-7)
    assert any("(--size), the channels first" in notice for notice in explainer.notices)


def test_flat_images_without_a_grid_are_refused_with_the_option() -> None:
    model = for_images(load(perceptron("N, 48", 48)))
    with pytest.raises(ModelError, match=r"if 'x' holds flat images, give their size: --size H,W"):
        image_input(model)


def test_size_that_does_not_fit_flat_images_is_refused() -> None:
    with pytest.raises(SettingError, match="does not fit the flat input 'x' of 48 numbers"):
        for_images(load(perceptron("N, 48", 48)), (7, 7))


@pytest.mark.parametrize(
    ("shape", "out", "kind"),
    [
        ("N, T, D", "N, T, 5", "float"),  # sizes are unknown
        ("N, 16, 48", "N, 16, 5", "int64"),  # tokens
        ("8, 48", "8, 5", "float"),  # rows of a fixed batch
        ("8, 48", "8, 5", "int64"),
        ("N, 48", "N, 5", "float"),
    ],
)
def test_inputs_that_may_hold_anything_stay(shape: str, out: str, kind: str) -> None:
    model = for_images(load(perceptron(shape, 48, out, kind)))
    assert len(model.graph.inputs[0].shape) == len(shape.split(","))
    assert not model.notices


def test_detections_of_one_image_get_a_batch_axis() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]> net (float[3, 6, 8] x) => (float[2] a, float[48, 3] b) {
            t = Reshape(x, rows) b = Transpose(t) m = ReduceMean<axes = [1, 2], keepdims = 0>(x)
            a, rest = Split<axis = 0>(m, parts)
        }"""
    )
    arrays = {"rows": np.array([3, 48]), "parts": np.array([2, 1])}
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    image = images_of(3, "NCHW")[0][:1]
    loaded = ort.InferenceSession(
        for_images(load(proto)).bytes(), providers=["CPUExecutionProvider"]
    )
    original = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for name, expected in zip("ab", original.run(["a", "b"], {"x": image[0]}), strict=True):
        np.testing.assert_allclose(loaded.run([name], {"x": image})[0], expected[None], rtol=1e-6)
