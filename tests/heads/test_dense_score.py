"""Segmenters and detectors: one score per class is added, and layers and maps are those of that score."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import onnxcam
from onnxcam.errors import UnknownNameError
from onnxcam.heads.class_axis import shortest_axis
from onnxcam.heads.dense_score import ensure_class_scores
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from onnxcam.specs import CLASS_SCORES
from tests.support.nets import random_images

X = random_images(2)
HEAD = """<ir_version: 8, opset_import: ["": 17]>
    net (float[N, 3, 8, 8] x) => ({outputs}) <int64[3] flat = {{0, 0, -1}}> {{
        a = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w)
        features = Relu(a)
        {body}
    }}"""
SEGMENTER = (
    "float[N, 6, 8, 8] pixels",
    "logits = Conv(features, v) pixels = Softmax<axis = 1>(logits)",
)
CHANNELS_LAST = (
    "float[N, 8, 8, 6] pixels",
    "logits = Conv(features, v) pixels = Transpose<perm = [0, 2, 3, 1]>(logits)",
)
DETECTOR = (
    "float[N, 64, 4] boxes, float[N, 64, 6] fine, float[N, 16, 6] coarse",
    """corners = Conv(features, u)
       four = Reshape(corners, flat)
       boxes = Transpose<perm = [0, 2, 1]>(four)
       first = Conv(features, v)
       rows = Reshape(first, flat)
       fine = Transpose<perm = [0, 2, 1]>(rows)
       half = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(features)
       second = Conv(half, v)
       others = Reshape(second, flat)
       coarse = Transpose<perm = [0, 2, 1]>(others)""",
)


def net(outputs: str, body: str) -> onnx.ModelProto:
    proto = parser.parse_model(HEAD.format(outputs=outputs, body=body))
    draw = np.random.default_rng(3)
    shapes = {"w": (4, 3, 3, 3), "v": (6, 4, 1, 1), "u": (4, 4, 1, 1)}
    used = {name for node in proto.graph.node for name in node.input}
    for name, shape in shapes.items():
        values = draw.normal(size=shape).astype(np.float32)
        if name in used:
            proto.graph.initializer.append(numpy_helper.from_array(values, name))
    return proto


def run(model: Model, names: list[str]) -> Any:
    return Session(model.bytes(), Device("cpu"), threads=1).run(names, {"x": X})


def test_segmenter_score_is_mean_over_pixels() -> None:
    model, score = ensure_class_scores(load(net(*SEGMENTER)))
    assert (score.logits, score.classes) == (CLASS_SCORES, 6)
    model.graph.outputs.append(model.graph.tensors()["logits"])
    pooled, logits = run(model, [CLASS_SCORES, "logits"])
    np.testing.assert_allclose(pooled, np.mean(logits, axis=(2, 3)), rtol=1e-5, atol=1e-6)
    assert "mean of a class over the image" in model.notices[-1]


def test_detector_score_is_maximum_over_boxes_of_all_heads() -> None:
    """The output with the four numbers of each box does not count."""
    model, score = ensure_class_scores(load(net(*DETECTOR)))
    assert score.classes == 6
    pooled, fine, coarse = run(model, [CLASS_SCORES, "fine", "coarse"])
    expected = np.concatenate([fine, coarse], axis=1).max(axis=1)
    np.testing.assert_allclose(pooled, expected, rtol=1e-6)
    assert "fine, coarse have 6 numbers per box" in model.notices[-1]


def test_named_output_is_pooled() -> None:
    model, score = ensure_class_scores(load(net(*DETECTOR)), "boxes")
    assert score.classes == 4
    pooled, boxes = run(model, [CLASS_SCORES, "boxes"])
    np.testing.assert_allclose(pooled, boxes.max(axis=1), rtol=1e-6)
    with pytest.raises(UnknownNameError, match="nothing"):
        ensure_class_scores(load(net(*DETECTOR)), "nothing")


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((1, 21, 64, 64), 1), (("N", "H", "W", 6), 3), ((1, 8400, 84), 2), ((1, 84, 8400), 1)],
)
def test_shortest_axis_of_shape(shape: tuple[Any, ...], axis: int) -> None:
    assert shortest_axis(shape, range(1, len(shape))) == axis


def test_classifier_is_not_changed() -> None:
    model = load(net("float[N, 4] y", "p = GlobalAveragePool(features) y = Flatten(p)"))
    assert ensure_class_scores(model)[0] is model


@pytest.mark.parametrize("kind", [SEGMENTER, CHANNELS_LAST, DETECTOR], ids=lambda kind: kind[0])
@pytest.mark.parametrize("method", ["grad-cam", "smooth-grad-cam++"])
def test_maps_use_gradient_of_pooled_score(kind: tuple[str, str], method: str) -> None:
    """The gradient at the features is that of the score at some of the positions."""
    explainer = onnxcam.Explainer(load(net(*kind)), method, "features", device="cpu")
    explanation = explainer(X, target=2)
    assert explanation.maps.shape == (2, 8, 8)
    assert explanation.maps.max() > 0
    notices = explanation.notices
    assert any("is explained" in notice and "--target CLASS@" in notice for notice in notices)
    layers = onnxcam.layers(load(net(*kind)))
    assert all(layer.automatic for layer in layers if layer.auto_for_smoothing)
