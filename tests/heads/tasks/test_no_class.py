"""The class that stands for nothing: by its label, by the kind of positions, or by its bias."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcam.heads.output_choice import choose_output
from onnxcam.heads.score import find_heads
from onnxcam.heads.tasks.no_class import NoClass, class_of_nothing, final_bias
from onnxcam.model.load import load
from tests.heads.support.nets import POOL, build

ANCHORS = "c = Conv(features, v) r = Reshape(c, flat) z = Transpose<perm = [0, 2, 1]>(r)"
QUERIES = """r = Reshape(features, flat) k = MatMul(queries, r) s = Softmax<axis = -1>(k)
    t = Transpose<perm = [0, 2, 1]>(r) o = MatMul(s, t) i = MatMul(o, m)"""
STEPS = "c = Conv(features, v) s = ReduceMean<axes = [2], keepdims = 0>(c)"
SOFTMAX, SIGMOID = "y = Softmax<axis = -1>(z)", "y = Sigmoid(z)"
NAMES = tuple(f"name {number}" for number in range(6))
NETS = {  # shape, body, task, labels, the class that stands for nothing and its name
    "anchors, Softmax": ("N, 64, 6", f"{ANCHORS} {SOFTMAX}", "detection", None, (0, "background")),
    "anchors, Sigmoid": ("N, 64, 6", f"{ANCHORS} {SIGMOID}", "detection", None, None),
    "one label less": (
        "N, 64, 6",
        f"{ANCHORS} {SIGMOID}",
        "detection",
        NAMES[:5],
        (0, "background"),
    ),
    "all labels": ("N, 64, 6", f"{ANCHORS} {SOFTMAX}", "detection", NAMES, None),
    "background named last": (
        "N, 64, 6",
        f"{ANCHORS} {SOFTMAX}",
        "detection",
        (*NAMES[:5], "background"),
        (5, "background"),
    ),
    "queries, Softmax": (
        "N, 10, 6",
        f"{QUERIES} z = Add(i, b) {SOFTMAX}",
        "detection",
        None,
        (5, "no object"),
    ),
    "queries, one label less": (
        "N, 10, 6",
        f"{QUERIES} z = Add(i, b) {SIGMOID}",
        "detection",
        NAMES[:5],
        (5, "no object"),
    ),
    "queries, raw": ("N, 10, 6", f"{QUERIES} y = Add(i, b)", "detection", None, None),
    "queries, bias": (
        "N, 10, 6",
        f"{QUERIES} y = Add(i, last)",
        "detection",
        None,
        (5, "no object"),
    ),
    "pixels": ("N, 6, 8, 8", "y = Conv(features, v)", "segmentation", None, None),
    "pixels, one label less": (
        "N, 6, 8, 8",
        "y = Conv(features, v)",
        "segmentation",
        NAMES[:5],
        (0, "background"),
    ),
    "steps": ("N, 6, 8", f"{STEPS} y = Identity(s)", "sequence", None, (0, "blank")),
    "steps, bias first": (
        "N, 8, 6",
        f"{STEPS} t = Transpose<perm = [0, 2, 1]>(s) y = Add(t, first)",
        "sequence",
        None,
        (0, "blank"),
    ),
    "steps, bias last": (
        "N, 8, 6",
        f"{STEPS} t = Transpose<perm = [0, 2, 1]>(s) y = Add(t, last)",
        "sequence",
        NAMES[:5],
        (5, "blank"),
    ),
    "steps, biases of one size": (
        "N, 8, 6",
        f"{STEPS} t = Transpose<perm = [0, 2, 1]>(s) y = Add(t, similar)",
        "sequence",
        None,
        (0, "blank"),
    ),
    "nothing named last": (
        "N, 6, 8",
        f"{STEPS} y = Identity(s)",
        "sequence",
        (*NAMES[:5], ""),
        (5, "blank"),
    ),
    "steps, other labels": (
        "N, 6, 8",
        f"{STEPS} y = Identity(s)",
        "sequence",
        NAMES,
        (0, "blank"),
    ),
    "dash named first": (
        "N, 6, 8",
        f"{STEPS} y = Identity(s)",
        "sequence",
        ("-", *NAMES[1:]),
        (0, "blank"),
    ),
    "blank named first": (
        "N, 6, 8",
        f"{STEPS} y = Identity(s)",
        "sequence",
        ("<blank>", *NAMES[1:]),
        (0, "blank"),
    ),
    "one score per class": (
        "N, 6",
        f"{POOL} z = MatMul(f, m) {SOFTMAX}",
        "classification",
        None,
        None,
    ),
}
BIASES = {
    "b": [-4.0] * 6,
    "last": [0.0] * 5 + [3.0],
    "first": [3.0] + [0.0] * 5,
    "similar": [-0.03, 0.1, -0.2, 0.1, -0.1, -0.01],
}


def net(shape: str, body: str) -> onnx.ModelProto:
    proto = build(f"float[{shape}] y", body)
    others = [tensor for tensor in proto.graph.initializer if tensor.name not in BIASES]
    proto.graph.ClearField("initializer")
    proto.graph.initializer.extend(others)
    used = {name for node in proto.graph.node for name in node.input}
    for name, values in BIASES.items():
        if name in used:
            proto.graph.initializer.append(
                numpy_helper.from_array(np.array(values, np.float32), name)
            )
    return proto


@pytest.mark.parametrize("name", NETS)
def test_class_of_nothing_is_told_by_labels_or_graph(name: str) -> None:
    shape, body, task, names, expected = NETS[name]
    head = choose_output(find_heads(load(net(shape, body)))).head
    nothing = class_of_nothing(head, task, names)
    assert (nothing and (nothing.index, nothing.name)) == expected
    if nothing is not None:
        assert nothing.is_assumed is ("named" not in name)
        assert "--labels" in nothing.notice("y")


@pytest.mark.parametrize(("classes", "expected"), [(2, 0), (21, 0), (19, None)])
def test_background_of_segmenter_without_labels(classes: int, expected: int | None) -> None:
    proto = build(f"float[N, {classes}, 8, 8] y", "y = Conv(features, weights)")
    weights = np.ones((classes, 4, 1, 1), np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weights, "weights"))
    nothing = class_of_nothing(find_heads(load(proto))[0], "segmentation", None)
    assert (nothing and nothing.index) == expected


def test_bias_of_convolution_is_read() -> None:
    proto = build("float[N, 64, 6] y", f"{ANCHORS.replace('v)', 'v, last)')} {SOFTMAX}")
    values = np.array(BIASES["last"], np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(values, "last"))
    head = find_heads(load(proto))[0]
    np.testing.assert_array_equal(final_bias(head), [values])
    assert isinstance(class_of_nothing(head, "detection", None), NoClass)
