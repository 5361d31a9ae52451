"""Which axis of an output holds the batch, and which holds the classes."""

from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.errors import ModelError
from onnxcam.heads.dense_score import ensure_class_scores
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from onnxcam.specs import CLASS_SCORES
from tests.heads.support.nets import POOL, build
from tests.support.nets import random_images


def run(model: Model, *names: str, count: int = 2) -> list[Any]:
    outputs = {tensor.name for tensor in model.graph.outputs}
    model.graph.outputs += [model.graph.tensors()[name] for name in names if name not in outputs]
    session = Session(model.bytes(), Device("cpu"), threads=1)
    return session.run(list(names), {"x": random_images(count)})


BIG = "c = Conv(features, big)"
MAPS = {  # outputs, body, class axis, number of classes, and how they are pooled
    "more classes than rows": ("float[N, 90, 8, 8] y", "y = Conv(features, big)", 1, 90, "mean"),
    "the same, channels last": (
        "float[N, 8, 8, 90] y",
        f"{BIG} y = Transpose<perm = [0, 2, 3, 1]>(c)",
        3,
        90,
        "mean",
    ),
    "upsampled": (
        "float[N, 90, H, W] y",
        f"{BIG} empty = Constant<value_floats = [1.0, 1.0, 2.0, 2.0]>() y = Resize(c, , empty)",
        1,
        90,
        "mean",
    ),
    "more classes than boxes": (
        "float[N, 64, 90] y",
        f"{BIG} r = Reshape(c, flat) y = Transpose<perm = [0, 2, 1]>(r)",
        2,
        90,
        "max",
    ),
    "classes first": ("float[N, 90, 64] y", f"{BIG} y = Reshape(c, flat)", 1, 90, "max"),
    "steps last": (
        "float[N, 90, 8] y",
        f"{BIG} y = ReduceMean<axes = [2], keepdims = 0>(c)",
        1,
        90,
        "max",
    ),
    "queries": (
        "float[N, 10, 90] y",
        """r = Reshape(features, flat) k = MatMul(queries, r) s = Softmax<axis = -1>(k)
           t = Transpose<perm = [0, 2, 1]>(r) o = MatMul(s, t) y = MatMul(o, wide)""",
        2,
        90,
        "max",
    ),
    "steps of a recurrence": (
        "float[N, 8, 90] y",
        """s = ReduceMean<axes = [2], keepdims = 0>(features) t = Transpose<perm = [2, 0, 1]>(s)
           o, h = GRU<hidden_size = 4>(t, gates, recurrence) d = Squeeze(o, axis)
           z = MatMul(d, wide) y = Transpose<perm = [1, 0, 2]>(z)""",
        2,
        90,
        "max",
    ),
    "one channel": ("float[N, 1, 8, 8] y", "y = Conv(features, u)", None, 1, "mean"),
    "one number per box": (
        "float[N, 64, 1] y",
        "c = Conv(features, u) t = Transpose<perm = [0, 2, 3, 1]>(c) y = Reshape(t, columns)",
        None,
        1,
        "max",
    ),
    "no channels": (
        "float[N, 8, 8] y",
        "y = ReduceMax<axes = [1], keepdims = 0>(features)",
        None,
        1,
        "mean",
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_class_axis_is_found_from_graph(name: str) -> None:
    outputs, body, axis, count, pooling = MAPS[name]
    model, score = ensure_class_scores(load(build(outputs, body)))
    assert (score.logits, score.classes) == (CLASS_SCORES, count)
    pooled, y = run(model, CLASS_SCORES, "y")
    others = tuple(i for i in range(1, y.ndim) if i != axis)
    pool = np.mean if pooling == "mean" else np.max
    np.testing.assert_allclose(pooled, pool(y, axis=others).reshape(2, count), rtol=1e-4, atol=1e-6)
    assert not any("class axis" in notice for notice in model.notices)


def test_two_heads_with_one_number_per_box_are_pooled() -> None:
    body = """c = Conv(features, u) t = Transpose<perm = [0, 2, 3, 1]>(c) fine = Reshape(t, columns)
        half = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(features) d = Conv(half, u)
        e = Transpose<perm = [0, 2, 3, 1]>(d) g = Reshape(e, columns) coarse = Sigmoid(g)
        q = Sigmoid(fine) """
    proto = build("float[N, 64, 1] q, float[N, 16, 1] coarse", body)
    model, score = ensure_class_scores(load(proto))
    assert score.classes == 1
    pooled, fine, coarse = run(model, CLASS_SCORES, "fine", "g")
    expected = np.concatenate([fine, coarse], axis=1).max(axis=1)
    np.testing.assert_allclose(pooled, expected, rtol=1e-5)
    assert "q, coarse have one number per box" in model.notices[-1]


def test_guessed_class_axis_is_reported() -> None:
    """The axes of TopK cannot be followed, and the scores not through Abs: the shortest axis is assumed."""
    body = "r = Reshape(features, flat) t, i = TopK<axis = 2>(r, second) k = Abs(t) y = Sigmoid(k)"
    loaded = load(build("float[N, 4, 2] y", body))
    model, score = ensure_class_scores(loaded)
    assert score.classes == 2
    assert any("the class axis of y ['N', 4, 2] is unknown" in notice for notice in model.notices)
    assert any("--output NAME" in notice for notice in model.notices)


@pytest.mark.parametrize(
    ("axis", "shape"), [(0, "2, N, 6"), (1, "N, 2, 6"), (2, "N, 6, 2")], ids=str
)
def test_stacked_scores_are_pooled_over_new_axis(axis: int, shape: str) -> None:
    """Scores of ensemble members or of two crops: the new axis is assumed to hold no classes."""
    body = f"""{POOL} g = MatMul(f, m) h = Neg(g) axes = Constant<value_ints = [{axis}]>()
        k = Unsqueeze(g, axes) l = Unsqueeze(h, axes) y = Concat<axis = {axis}>(k, l)"""
    model, score = ensure_class_scores(load(build(f"float[{shape}] y", body)))
    assert score.classes == 6
    pooled, y = run(model, CLASS_SCORES, "y")
    np.testing.assert_allclose(pooled, y.max(axis=axis), rtol=1e-5)
    assert any("the class axis of y" in notice for notice in model.notices)


# The batch

STEPS_FIRST = (
    f"{BIG} r = ReduceMean<axes = [2], keepdims = 0>(c) y = Transpose<perm = [2, 0, 1]>(r)"
)


@pytest.mark.parametrize("batch", ["N", "1", "2"])
def test_batch_as_second_axis_is_found(batch: str) -> None:
    model, score = ensure_class_scores(load(build(f"float[8, {batch}, 90] y", STEPS_FIRST, batch)))
    assert score.classes == 90
    count = 1 if batch == "1" else 2
    pooled, y = run(model, CLASS_SCORES, "y", count=count)
    np.testing.assert_allclose(pooled, y.max(axis=0), rtol=1e-5)
    assert pooled.shape == (count, 90)


@pytest.mark.parametrize("chunk", [1, 3])
def test_maps_with_batch_as_second_axis_equal_single_maps(chunk: int) -> None:
    proto = build("float[8, N, 90] y", STEPS_FIRST)
    settings: dict[str, Any] = {"samples": 4, "chunk": chunk, "device": "cpu"}
    explanation = onnxcam.Explainer(load(proto), "smooth-grad-cam++", "a", **settings)(
        random_images(2), target=7
    )
    settings["chunk"] = 2
    single = onnxcam.Explainer(load(proto), "smooth-grad-cam++", "a", **settings)(
        random_images(2)[1:], target=7
    )
    np.testing.assert_allclose(explanation.maps[1:], single.maps, rtol=1e-4, atol=1e-7)


def test_batch_with_unknown_name_is_followed() -> None:
    model, score = ensure_class_scores(load(build("float[steps, unk__7, 90] y", STEPS_FIRST)))
    pooled, y = run(model, CLASS_SCORES, "y")
    assert score.classes == 90
    np.testing.assert_allclose(pooled, y.max(axis=0), rtol=1e-5)


SQUEEZED = {
    "boxes": ("float[64, 6] y", "t = Transpose<perm = [0, 2, 3, 1]>(c) y = Reshape(t, rows)", 6),
    "classes by boxes": ("float[6, 64] y", "q = Reshape(c, flat) y = Squeeze(q, first)", 6),
    "pixels": ("float[6, 8, 8] y", "y = Squeeze(c, first)", 6),
    "one number per box": (
        "float[64, 1] y",
        """o = Conv(features, u) t = Transpose<perm = [0, 2, 3, 1]>(o) q = Reshape(t, columns)
           y = Squeeze(q, first)""",
        1,
    ),
    "one per class": ("float[6] y", f"{POOL} g = MatMul(f, m) y = Squeeze(g, first)", 6),
    "one number": ("float[] y", f"{POOL} g = MatMul(f, n) y = Squeeze(g)", 1),
    "one number of one": ("float[1] y", f"{POOL} g = MatMul(f, n) y = Squeeze(g, first)", 1),
}


@pytest.mark.parametrize("name", SQUEEZED)
def test_squeezed_batch_is_restored(name: str) -> None:
    outputs, body, count = SQUEEZED[name]
    loaded = load(build(outputs, f"c = Conv(features, v) {body}", "1"))
    model, score = ensure_class_scores(loaded)
    assert (score.logits, score.classes) == (CLASS_SCORES, count)
    pooled, y = run(model, CLASS_SCORES, "y", count=1)
    if name == "pixels":
        expected = y.mean(axis=(1, 2))
    elif name == "classes by boxes":
        expected = y.max(axis=1)
    else:
        expected = y.max(axis=0) if y.ndim == 2 else y
    np.testing.assert_allclose(pooled, np.reshape(expected, (1, count)), rtol=1e-4, atol=1e-6)


def test_one_number_per_image_is_one_class() -> None:
    """(N,) is a batch, not classes."""
    body = f"{POOL} g = MatMul(f, n) second_axis = Constant<value_ints = [1]>() y = Squeeze(g, second_axis)"
    model, score = ensure_class_scores(load(build("float[N] y", body)))
    assert score.classes == 1
    pooled, y = run(model, CLASS_SCORES, "y", count=3)
    np.testing.assert_array_equal(pooled[:, 0], y)


@pytest.mark.parametrize("name", ["boxes", "pixels", "one per class", "one number"])
@pytest.mark.parametrize("method", ["grad-cam", "smooth-grad-cam++"])
def test_maps_of_squeezed_batch_equal_single_maps(name: str, method: str) -> None:
    outputs, body, count = SQUEEZED[name]
    proto = build(outputs, f"c = Conv(features, v) {body}", "1")
    explainer = onnxcam.Explainer(load(proto), method, "a", device="cpu")
    explanation = explainer(random_images(2), target=count - 1)
    assert explanation.maps.shape == (2, 8, 8)
    single = explainer(random_images(2)[1:], target=count - 1)
    np.testing.assert_allclose(explanation.maps[1:], single.maps, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("outputs", ["float[6] y", "float[64, 6] y"])
def test_output_without_batch_is_refused(outputs: str) -> None:
    """Summed over the batch, or joined with the boxes: no score belongs to one image."""
    body = f"{POOL} g = MatMul(f, m) y = ReduceSum<keepdims = 0>(g, first)"
    if "64" in outputs:
        body = "c = Conv(features, v) t = Transpose<perm = [0, 2, 3, 1]>(c) y = Reshape(t, row)"
        outputs = "float[K, 6] y"
    with pytest.raises(ModelError, match="no output has one score per class"):
        ensure_class_scores(load(build(outputs, body)))
