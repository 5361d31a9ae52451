"""Which axis of an output holds the batch, and which the classes."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import onnxcam
from onnxcam.errors import ModelError
from onnxcam.heads.dense_score import ensure_class_scores
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from onnxcam.specs import CLASS_SCORES
from tests.support.nets import pictures

NET = """<ir_version: 8, opset_import: ["": 17, "ai.onnx.ml": 3]>
    net (float[{batch}, 3, 8, 8] x) => ({outputs}) <int64[3] flat = {{0, 0, -1}}, int64[1] first = {{0}},
        int64[1] second = {{2}}, int64[2] rows = {{64, 6}}, int64[2] row = {{-1, 6}}, int64[1] one = {{-1}},
        int64[3] columns = {{0, -1, 1}}, int64[1] axis = {{1}}> {{
        a = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w)
        features = Relu(a)
        {body}
    }}"""
SHAPES = {
    "w": (4, 3, 3, 3),
    "v": (6, 4, 1, 1),
    "u": (1, 4, 1, 1),
    "big": (90, 4, 1, 1),
    "m": (4, 6),
    "n": (4, 1),
    "queries": (10, 4),
    "wide": (4, 90),
    "corners": (4, 4),
    "gates": (1, 12, 4),
    "again": (1, 12, 4),
}


def build(outputs: str, body: str, batch: str = "N", **metadata: str) -> onnx.ModelProto:
    proto = parser.parse_model(NET.format(outputs=outputs, body=body, batch=batch))
    used = {name for node in proto.graph.node for name in node.input}
    draw = np.random.default_rng(3)
    for name, shape in SHAPES.items():
        values = draw.normal(size=shape).astype(np.float32)
        if name in used:
            proto.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.helper.set_model_props(proto, metadata)
    return proto


def run(model: Model, *names: str, count: int = 2) -> list[Any]:
    known = {tensor.name for tensor in model.graph.outputs}
    model.graph.outputs += [model.graph.tensors()[name] for name in names if name not in known]
    session = Session(model.bytes(), Device("cpu"), threads=1)
    return session.run(list(names), {"x": pictures(count)})


POOL = "p = GlobalAveragePool(features) f = Flatten(p)"
BIG = "c = Conv(features, big)"
MAPS = {  # outputs, body, the axis of classes, how many, and how they are pooled
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
           o, h = GRU<hidden_size = 4>(t, gates, again) d = Squeeze(o, axis)
           z = MatMul(d, wide) y = Transpose<perm = [1, 0, 2]>(z)""",
        2,
        90,
        "max",
    ),
    "one channel": ("float[N, 1, 8, 8] y", "y = Conv(features, u)", None, 1, "mean"),
    "one number a box": (
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
def test_the_axis_of_the_classes(name: str) -> None:
    outputs, body, axis, count, how = MAPS[name]
    model, score = ensure_class_scores(load(build(outputs, body)))
    assert (score.logits, score.classes) == (CLASS_SCORES, count)
    pooled, y = run(model, CLASS_SCORES, "y")
    others = tuple(i for i in range(1, y.ndim) if i != axis)
    pool = np.mean if how == "mean" else np.max
    np.testing.assert_allclose(pooled, pool(y, axis=others).reshape(2, count), rtol=1e-4, atol=1e-6)
    assert not any("class axis" in notice for notice in model.notices)


def test_two_heads_of_one_number_a_box() -> None:
    body = """c = Conv(features, u) t = Transpose<perm = [0, 2, 3, 1]>(c) fine = Reshape(t, columns)
        half = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(features) d = Conv(half, u)
        e = Transpose<perm = [0, 2, 3, 1]>(d) g = Reshape(e, columns) coarse = Sigmoid(g)
        q = Sigmoid(fine) """
    it = build("float[N, 64, 1] q, float[N, 16, 1] coarse", body)
    model, score = ensure_class_scores(load(it))
    assert score.classes == 1
    pooled, fine, coarse = run(model, CLASS_SCORES, "fine", "g")
    expected = np.concatenate([fine, coarse], axis=1).max(axis=1)
    np.testing.assert_allclose(pooled, expected, rtol=1e-5)
    assert "q, coarse has one number per box" in model.notices[-1]


def test_where_nothing_tells_it_is_said() -> None:
    """A step that is not followed: the shortest axis is taken, and the notice says so."""
    body = "r = Reshape(features, flat) t, i = TopK<axis = 2>(r, second) y = Sigmoid(t)"
    it = load(build("float[N, 4, 2] y", body))
    model, score = ensure_class_scores(it)
    assert score.classes == 2
    assert any("the class axis of y ['N', 4, 2] is unknown" in notice for notice in model.notices)
    assert any("--output NAME" in notice for notice in model.notices)


@pytest.mark.parametrize(
    ("axis", "shape"), [(0, "2, N, 6"), (1, "N, 2, 6"), (2, "N, 6, 2")], ids=str
)
def test_scores_that_were_stacked(axis: int, shape: str) -> None:
    """Of the members of an ensemble, or of two crops: no classes lie along the new axis, as far as is known."""
    body = f"""{POOL} g = MatMul(f, m) h = Neg(g) place = Constant<value_ints = [{axis}]>()
        k = Unsqueeze(g, place) l = Unsqueeze(h, place) y = Concat<axis = {axis}>(k, l)"""
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
def test_a_batch_that_is_the_second_axis(batch: str) -> None:
    model, score = ensure_class_scores(load(build(f"float[8, {batch}, 90] y", STEPS_FIRST, batch)))
    assert score.classes == 90
    count = 1 if batch == "1" else 2
    pooled, y = run(model, CLASS_SCORES, "y", count=count)
    np.testing.assert_allclose(pooled, y.max(axis=0), rtol=1e-5)
    assert pooled.shape == (count, 90)


@pytest.mark.parametrize("chunk", [1, 3])
def test_maps_of_a_batch_that_is_the_second_axis(chunk: int) -> None:
    proto = build("float[8, N, 90] y", STEPS_FIRST)
    settings: dict[str, Any] = {"samples": 4, "chunk": chunk, "device": "cpu"}
    explanation = onnxcam.Explainer(load(proto), "smooth-grad-cam++", "a", **settings)(
        pictures(2), target=7
    )
    settings["chunk"] = 2
    alone = onnxcam.Explainer(load(proto), "smooth-grad-cam++", "a", **settings)(
        pictures(2)[1:], target=7
    )
    np.testing.assert_allclose(explanation.maps[1:], alone.maps, rtol=1e-4, atol=1e-7)


def test_a_batch_that_has_another_name() -> None:
    model, score = ensure_class_scores(load(build("float[steps, unk__7, 90] y", STEPS_FIRST)))
    pooled, y = run(model, CLASS_SCORES, "y")
    assert score.classes == 90
    np.testing.assert_allclose(pooled, y.max(axis=0), rtol=1e-5)


SQUEEZED = {
    "boxes": ("float[64, 6] y", "t = Transpose<perm = [0, 2, 3, 1]>(c) y = Reshape(t, rows)", 6),
    "classes by boxes": ("float[6, 64] y", "q = Reshape(c, flat) y = Squeeze(q, first)", 6),
    "pixels": ("float[6, 8, 8] y", "y = Squeeze(c, first)", 6),
    "one number a box": (
        "float[64, 1] y",
        """o = Conv(features, u) t = Transpose<perm = [0, 2, 3, 1]>(o) q = Reshape(t, columns)
           y = Squeeze(q, first)""",
        1,
    ),
    "one a class": ("float[6] y", f"{POOL} g = MatMul(f, m) y = Squeeze(g, first)", 6),
    "one number": ("float[] y", f"{POOL} g = MatMul(f, n) y = Squeeze(g)", 1),
    "one number of one": ("float[1] y", f"{POOL} g = MatMul(f, n) y = Squeeze(g, first)", 1),
}


@pytest.mark.parametrize("name", SQUEEZED)
def test_a_batch_of_one_that_was_squeezed_away(name: str) -> None:
    outputs, body, count = SQUEEZED[name]
    it = load(build(outputs, f"c = Conv(features, v) {body}", "1"))
    model, score = ensure_class_scores(it)
    assert (score.logits, score.classes) == (CLASS_SCORES, count)
    pooled, y = run(model, CLASS_SCORES, "y", count=1)
    if name == "pixels":
        expected = y.mean(axis=(1, 2))
    elif name == "classes by boxes":
        expected = y.max(axis=1)
    else:
        expected = y.max(axis=0) if y.ndim == 2 else y
    np.testing.assert_allclose(pooled, np.reshape(expected, (1, count)), rtol=1e-4, atol=1e-6)


def test_one_number_an_image() -> None:
    """(N,): a batch, and not as many classes."""
    body = f"{POOL} g = MatMul(f, n) second_axis = Constant<value_ints = [1]>() y = Squeeze(g, second_axis)"
    model, score = ensure_class_scores(load(build("float[N] y", body)))
    assert score.classes == 1
    pooled, y = run(model, CLASS_SCORES, "y", count=3)
    np.testing.assert_array_equal(pooled[:, 0], y)


@pytest.mark.parametrize("name", ["boxes", "pixels", "one a class", "one number"])
@pytest.mark.parametrize("method", ["grad-cam", "smooth-grad-cam++"])
def test_maps_of_a_squeezed_batch(name: str, method: str) -> None:
    outputs, body, count = SQUEEZED[name]
    proto = build(outputs, f"c = Conv(features, v) {body}", "1")
    explainer = onnxcam.Explainer(load(proto), method, "a", device="cpu")
    explanation = explainer(pictures(2), target=count - 1)
    assert explanation.maps.shape == (2, 8, 8)
    single = explainer(pictures(2)[1:], target=count - 1)
    np.testing.assert_allclose(explanation.maps[1:], single.maps, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("outputs", ["float[6] y", "float[64, 6] y"])
def test_a_free_batch_that_is_nowhere(outputs: str) -> None:
    """Summed over the batch, or multiplied with the boxes: no score is one image's."""
    body = f"{POOL} g = MatMul(f, m) y = ReduceSum<keepdims = 0>(g, first)"
    if "64" in outputs:
        body = "c = Conv(features, v) t = Transpose<perm = [0, 2, 3, 1]>(c) y = Reshape(t, row)"
        outputs = "float[K, 6] y"
    with pytest.raises(ModelError, match="no output has one number a class"):
        ensure_class_scores(load(build(outputs, body)))
