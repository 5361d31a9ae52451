"""Which numbers of detections are classes, by the labels in the metadata or by the operators."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import onnxcam
from onnxcam.errors import ModelError
from onnxcam.heads.dense_score import ensure_class_scores
from onnxcam.heads.detection_columns import ClassColumns, columns_by_labels
from onnxcam.heads.positions import with_dense_scores
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from onnxcam.specs import CLASS_SCORES
from tests.support.nets import random_images

NET = """<ir_version: 8, opset_import: ["": 17]>
    net (float[N, 3, 8, 8] x) => (float[{shape}] y) <int64[3] flat = {{0, 0, -1}}> {{
        a = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w)
        features = Relu(a)
        {body}
    }}"""
LABELS = {"two": "{0: 'cat', 1: 'dog'}", "one": "{0: 'face'}", "four": "['a', 'b', 'c', 'd']"}


def net(shape: str, body: str, **metadata: str) -> onnx.ModelProto:
    proto = parser.parse_model(NET.format(shape=shape, body=body))
    used = {name for node in proto.graph.node for name in node.input}
    draw = np.random.default_rng(5)
    sizes = {"w": (4, 3, 3, 3)} | {f"v{k}": (k, 4, 1, 1) for k in (1, 2, 4, 5, 6, 7, 32, 38, 66)}
    for name, size in sizes.items():
        if name in used:
            values = draw.normal(size=size).astype(np.float32)
            proto.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.helper.set_model_props(proto, metadata)
    return proto


def run(model: Model, *names: str) -> list[Any]:
    outputs = {tensor.name for tensor in model.graph.outputs}
    model.graph.outputs += [model.graph.tensors()[name] for name in names if name not in outputs]
    session = Session(model.bytes(), Device("cpu"), threads=1)
    return session.run(list(names), {"x": random_images(2)})


BOX = "c4 = Conv(features, v4) box = Reshape(c4, flat)"
V8 = f"{BOX} c2 = Conv(features, v2) z = Reshape(c2, flat) p = Sigmoid(z) y = Concat<axis = 1>(box, p)"


@pytest.mark.parametrize(
    ("size", "labels", "metadata", "expected"),
    [
        (6, 2, {}, (4, 6, None)),
        (84, 80, {"task": "detect"}, (4, 84, None)),
        (7, 2, {}, (5, 7, 4)),
        (85, 80, {"task": "detect"}, (5, 85, 4)),
        (116, 80, {"task": "segment"}, (4, 84, None)),
        (117, 80, {"task": "segment"}, (5, 85, 4)),
        (116, 80, {}, (4, 84, None)),
        (56, 1, {"task": "pose", "kpt_shape": "[17, 3]"}, (4, 5, None)),
        (20, 15, {"task": "obb"}, (4, 19, None)),
        (144, 80, {"task": "detect"}, (64, 144, None)),
        (80, 80, {}, None),
        (90, 80, {}, None),
        (6, 80, {"task": "detect"}, None),
        (7, 2, {"kpt_shape": "__import__('os')"}, (5, 7, 4)),
    ],
)
def test_columns_by_labels(size: int, labels: int, metadata: dict[str, str], expected: Any) -> None:
    assert columns_by_labels(size, labels, metadata) == (
        None if expected is None else ClassColumns(*expected)
    )


@pytest.mark.parametrize("transposed", [False, True])
def test_label_selects_its_class(transposed: bool) -> None:
    """The best class is one of the two, on whichever axis the boxes are."""
    shape, body = ("N, 6, 64", V8)
    if transposed:
        body = V8.replace("y = Concat", "q = Concat") + " y = Transpose<perm = [0, 2, 1]>(q)"
        shape = "N, 64, 6"
    proto = net(shape, body, names=LABELS["two"], task="detect")
    model, score = ensure_class_scores(load(proto))
    assert score.classes == 2
    pooled, p, z = run(model, CLASS_SCORES, "p", "z")
    # the logits if the Concat is next to the output
    expected = p.max(axis=2) if transposed else z.max(axis=2)
    np.testing.assert_allclose(pooled, expected, rtol=1e-5)
    explainer = onnxcam.Explainer(load(proto), "grad-cam", "features", device="cpu")
    explanation = explainer(random_images(2), target=["dog", "top1"])
    np.testing.assert_allclose(explanation.scores, [expected[0, 1], expected[1].max()], rtol=1e-5)
    assert (explanation.targets[0], explanation.indices[0]) == ("dog", 1)
    assert explanation.targets[1] in ("cat", "dog")
    assert "4 to 5 (from 0) are the scores of 2 classes" in explanation.notices[0]


def test_scores_are_multiplied_by_objectness() -> None:
    body = "c7 = Conv(features, v7) r = Reshape(c7, flat) p = Sigmoid(r) y = Transpose<perm = [0, 2, 1]>(p)"
    model, score = ensure_class_scores(load(net("N, 64, 7", body, names=LABELS["two"])))
    assert score.classes == 2
    pooled, y = run(model, CLASS_SCORES, "y")
    np.testing.assert_allclose(pooled, (y[:, :, 5:] * y[:, :, 4:5]).max(axis=1), rtol=1e-5)
    assert "times number 4" in model.notices[-1]


def test_raw_objectness_and_classes_get_sigmoid() -> None:
    """The product of two negative logits would be positive."""
    body = "c7 = Conv(features, v7) r = Reshape(c7, flat) y = Transpose<perm = [0, 2, 1]>(r)"
    model, score = ensure_class_scores(load(net("N, 64, 7", body, names=LABELS["two"])))
    pooled, y = run(model, CLASS_SCORES, "y")
    p = 1 / (1 + np.exp(-y))
    np.testing.assert_allclose(pooled, (p[:, :, 5:] * p[:, :, 4:5]).max(axis=1), rtol=1e-5)
    assert score.classes == 2
    assert "times number 4, both after a Sigmoid" in model.notices[-1]


RAW = "c6 = Conv(features, v6) r = Reshape(c6, flat)"


@pytest.mark.parametrize(
    ("shape", "body", "activation"),
    [
        ("N, 6, 64", f"{RAW} y = Identity(r)", "Sigmoid"),  # a Sigmoid is left to the caller
        ("N, 6, 64", f"{RAW} y = Sigmoid(r)", "Sigmoid"),
        ("N, 6, 64", V8, "Sigmoid"),
        (
            "N, 6, 128",
            f"{V8.replace('y = Concat', 'q = Concat')} y = Concat<axis = 2>(q, q)",
            None,  # no tensor has the logits of both grids
        ),
    ],
)
def test_classes_without_objectness_are_logits_or_probabilities(
    shape: str, body: str, activation: str | None
) -> None:
    _, score, dense, *_ = with_dense_scores(load(net(shape, body, names=LABELS["two"])))
    assert dense is not None
    assert (dense.activation, dense.is_probability) == (activation, activation is None)
    assert (score.classes, score.probability) == (2, activation is None)


def test_masks_are_not_classes() -> None:
    body = V8.replace("(box, p)", "(box, p, masks)")
    body = f"c32 = Conv(features, v32) masks = Reshape(c32, flat) {body}"
    model, score = ensure_class_scores(
        load(net("N, 38, 64", body, names=LABELS["two"], task="segment"))
    )
    assert score.classes == 2
    pooled, z = run(model, CLASS_SCORES, "z")
    np.testing.assert_allclose(pooled, z.max(axis=2), rtol=1e-5)


def test_detections_of_one_class() -> None:
    body = f"{BOX} c1 = Conv(features, v1) z = Reshape(c1, flat) p = Sigmoid(z) y = Concat<axis = 1>(box, p)"
    model, score = ensure_class_scores(
        load(net("N, 5, 64", body, names=LABELS["one"], task="detect"))
    )
    assert score.classes == 1
    pooled, z = run(model, CLASS_SCORES, "z")
    np.testing.assert_allclose(pooled, z.max(axis=2), rtol=1e-5)


def test_labels_find_class_axis_longer_than_boxes() -> None:
    """The sizes would mislead: there are 66 numbers for 4 boxes."""
    body = (
        "half = AveragePool<kernel_shape = [4, 4], strides = [4, 4]>(features) c = Conv(half, v66)"
    )
    body += " y = Reshape(c, flat)"
    names = str([f"name {i}" for i in range(62)])
    model, score = ensure_class_scores(load(net("N, 66, 4", body, names=names)))
    assert score.classes == 62
    pooled, y = run(model, CLASS_SCORES, "y")
    np.testing.assert_allclose(pooled, y[:, 4:].max(axis=2), rtol=1e-5)


SLICES = {
    "box, classes": ("box, p", 4, None),
    "box, objectness, classes": ("box, o, p", 5, 4),
    "objectness first": ("o, box, p", 5, 0),
}


@pytest.mark.parametrize("name", SLICES)
@pytest.mark.parametrize("two_grids", [False, True])
def test_columns_by_operators_without_labels(name: str, two_grids: bool) -> None:
    """Also if the detections of two grids are joined afterwards."""
    operands, start, objectness = SLICES[name]
    body = f"""{BOX} c2 = Conv(features, v2) z = Reshape(c2, flat) p = Sigmoid(z)
        c1 = Conv(features, v1) o1 = Reshape(c1, flat) o = Sigmoid(o1) q = Concat<axis = 1>({operands})"""
    width = start + 2
    if two_grids:
        body += " twice = Concat<axis = 2>(q, q) y = Transpose<perm = [0, 2, 1]>(twice)"
        shape = f"N, 128, {width}"
    else:
        body, shape = body.replace("q = Concat", "y = Concat"), f"N, {width}, 64"
    model, score = ensure_class_scores(load(net(shape, body)))
    assert score.classes == 2
    pooled, p, o, z = run(model, CLASS_SCORES, "p", "o" if objectness is not None else "p", "z")
    best = (p if two_grids else z) if objectness is None else p * o
    np.testing.assert_allclose(pooled, best.max(axis=2), rtol=1e-5)


@pytest.mark.parametrize("width", [6, 7])
def test_numbers_with_same_activation_are_all_classes(width: int) -> None:
    body = f"c = Conv(features, v{width}) r = Reshape(c, flat) y = Sigmoid(r)"
    assert ensure_class_scores(load(net(f"N, {width}, 64", body)))[1].classes == width


FINISHED = f"""{BOX} c2 = Conv(features, v2) z = Reshape(c2, flat) p = Sigmoid(z)
    best = ReduceMax<axes = [1]>(p) which = ArgMax<axis = 1>(p) number = Cast<to = 1>(which)
    q = Concat<axis = 1>(box, best, number) y = Transpose<perm = [0, 2, 1]>(q)"""


@pytest.mark.parametrize("metadata", [{}, {"names": LABELS["two"]}, {"names": LABELS["four"]}])
def test_final_detections_are_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(ModelError, match=r"'y' .* holds final detections: .*--output"):
        ensure_class_scores(load(net("N, 64, 6", FINISHED, **metadata)))
    assert ensure_class_scores(load(net("N, 64, 6", FINISHED)), "p")[1].classes == 2


@pytest.mark.parametrize("metadata", [{"end2end": "True"}, {"args": "{'batch': 1, 'nms': True}"}])
def test_detections_marked_final_by_exporter_are_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(ModelError, match="final detections"):
        ensure_class_scores(
            load(net("N, 6, 64", V8, names=LABELS["two"], task="detect", **metadata))
        )


def test_detection_size_unlike_labels_is_refused() -> None:
    body = "c7 = Conv(features, v7) y = Reshape(c7, flat)"
    with pytest.raises(
        ModelError, match=r"7 numbers per box, but the model names 4 classes; expected 8"
    ):
        ensure_class_scores(load(net("N, 7, 64", body, names=LABELS["four"], task="detect")))
