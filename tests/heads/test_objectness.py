"""Scores of boxes are multiplied by the objectness that another output holds for the same boxes."""

from typing import Any

import numpy as np
import pytest

from onnxcam.dense import DENSE, WHERE
from onnxcam.heads.dense_score import ensure_class_scores
from onnxcam.heads.positions import with_dense_scores
from onnxcam.heads.score import find_heads
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from onnxcam.specs import CLASS_SCORES
from tests.heads.support.nets import build
from tests.support.nets import random_images


def box_rows(weights: str, source: str, name: str) -> str:
    return f"""c_{name} = Conv({source}, {weights}) r_{name} = Reshape(c_{name}, flat)
        {name} = Transpose<perm = [0, 2, 1]>(r_{name})"""


HALF = "half = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(features) deep = Tanh(features)"
FACES = f"""{HALF} less = Tanh(half) {box_rows("u", "features", "rows_a")} {box_rows("u", "half", "rows_b")}
    {box_rows("u", "deep", "rows_d")} {box_rows("u", "less", "rows_e")} {box_rows("box", "features", "bbox_8")}
    {box_rows("box", "half", "bbox_16")} cls_8 = Sigmoid(rows_a) cls_16 = Sigmoid(rows_b)
    obj_8 = Sigmoid(rows_d) obj_16 = Sigmoid(rows_e)"""
FACE_OUTPUTS = (
    "float[N, 64, 1] cls_8, float[N, 16, 1] cls_16, float[N, 64, 1] obj_8, float[N, 16, 1] obj_16, "
    "float[N, 64, 4] bbox_8, float[N, 16, 4] bbox_16"
)
MAPS = f"{HALF} scores = Conv(features, v) centerness = Conv(deep, u) boxes = Conv(features, box)"
MAP_OUTPUTS = "float[N, 6, 8, 8] scores, float[N, 1, 8, 8] centerness, float[N, 4, 8, 8] boxes"


def run(model: Model, *names: str, **feeds: Any) -> list[Any]:
    outputs = {tensor.name for tensor in model.graph.outputs}
    model.graph.outputs += [model.graph.tensors()[name] for name in names if name not in outputs]
    session = Session(model.bytes(), Device("cpu"), threads=1)
    return session.run(list(names), {"x": random_images(2), **feeds})


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def test_objectness_of_several_grids_is_multiplied() -> None:
    loaded = load(build(FACE_OUTPUTS, FACES))
    model, score = ensure_class_scores(loaded)
    assert (score.classes, score.probability) == (1, False)
    names = ("cls_8", "cls_16", "obj_8", "obj_16")
    pooled, *arrays = run(model, CLASS_SCORES, *names)
    expected = np.concatenate([arrays[0] * arrays[2], arrays[1] * arrays[3]], axis=1)
    np.testing.assert_allclose(pooled, expected.max(axis=1), rtol=1e-5)
    assert "cls_8, cls_16 have one number per box, times obj_8 and the like" in model.notices[-1]
    model, score, dense, *_ = with_dense_scores(loaded)
    assert dense is not None
    assert (dense.is_probability, dense.activation, score.probability) == (True, None, True)
    (at_positions,) = run(model, DENSE, **{WHERE: np.ones((2, 1, 80), np.float32)})
    np.testing.assert_allclose(at_positions[:, 0], expected[..., 0], rtol=1e-5)


@pytest.mark.parametrize("has_sigmoid", [False, True])
def test_centerness_of_map_is_multiplied(has_sigmoid: bool) -> None:
    outputs, body = MAP_OUTPUTS, MAPS
    if has_sigmoid:
        body += " p = Sigmoid(scores) q_centerness = Sigmoid(centerness)"
        outputs = outputs.replace("] scores", "] p").replace("] centerness", "] q_centerness")
    model, score = ensure_class_scores(load(build(outputs, body)))
    assert score.classes == 6
    pooled, scores, centers = run(model, CLASS_SCORES, "scores", "centerness")
    product = sigmoid(scores) * sigmoid(centers)
    np.testing.assert_allclose(pooled, product.mean(axis=(2, 3)), rtol=1e-4)


@pytest.mark.parametrize(
    "outputs",
    [
        "float[N, 64, 1] obj_8, float[N, 64, 4] bbox_8",  # no other scores
        "float[N, 16, 1] cls_16, float[N, 64, 1] obj_8",  # other boxes
    ],
)
def test_objectness_without_scores_of_its_boxes_stays_a_head(outputs: str) -> None:
    heads = find_heads(load(build(outputs, FACES)))
    assert all(head.objectness is None for head in heads)
    assert "obj_8" in [head.output.name for head in heads]


def test_named_output_has_no_objectness() -> None:
    model, _ = ensure_class_scores(load(build(FACE_OUTPUTS, FACES)), "cls_8")
    pooled, logits = run(model, CLASS_SCORES, "rows_a")
    np.testing.assert_allclose(pooled, logits.max(axis=1), rtol=1e-5)
