"""Which of several outputs is explained, and which tensor of an output that is a sequence or a map."""

import re

import onnx
import pytest

import onnxcam
from onnxcam.heads.dense_score import ensure_class_scores
from onnxcam.model.load import load
from onnxcam.specs import CLASS_SCORES
from tests.heads.support.nets import POOL, build
from tests.support.nets import random_images

LOGITS = f"{POOL} logits = MatMul(f, m)"
SEVERAL = {
    "boxes, then Softmax": (
        "float[N, 4] boxes, float[N, 6] prob",
        f"{LOGITS} boxes = MatMul(f, corners) prob = Softmax<axis = 1>(logits)",
        "logits",
        "boxes",
    ),
    "boxes between 0 and 1": (
        "float[N, 4] x1y1x2y2, float[N, 6] logits",
        f"{LOGITS} corner = MatMul(f, corners) x1y1x2y2 = Sigmoid(corner)",
        "logits",
        "x1y1x2y2",
    ),
    "embedding, then logits": (
        "float[N, 4] embedding, float[N, 6] logits",
        f"{POOL} embedding = Tanh(f) logits = MatMul(embedding, m)",
        "logits",
        "embedding",
    ),
    "an embedding of length 1": (
        "float[N, 90] z, float[N, 6] logits",
        f"{LOGITS} long = MatMul(f, wide) size = ReduceL2<axes = [1]>(long) z = Div(long, size)",
        "logits",
        "z",
    ),
    "features, then logits": (
        "float[N, 4, 8, 8] features, float[N, 6] logits",
        LOGITS,
        "logits",
        "features",
    ),
    "without a difference": (
        "float[N, 6] logits, float[N, 90] extra",
        f"{LOGITS} extra = MatMul(f, wide)",
        "logits",
        "extra",
    ),
    "the same, Softmax at the second": (
        "float[N, 90] extra, float[N, 6] prob",
        f"{LOGITS} extra = MatMul(f, wide) prob = Softmax<axis = 1>(logits)",
        "logits",
        "extra",
    ),
    "by its name": (
        "float[N, 90] loc_out, float[N, 6] y",
        f"{LOGITS} y = Identity(logits) loc_out = MatMul(f, wide)",
        "y",
        "loc_out",
    ),
    "auxiliary first": (
        "float[N, 6] aux, float[N, 6] main",
        f"""{POOL} aux = MatMul(f, m) deeper = Tanh(features) g = GlobalAveragePool(deeper) h = Flatten(g)
            i = Tanh(h) main = MatMul(i, m)""",
        "main",
        "aux",
    ),
}


REASONS = {
    "boxes, then Softmax": "the other one looks like boxes",
    "boxes between 0 and 1": "the other one looks like boxes",
    "embedding, then logits": "the other one is an intermediate result",
    "an embedding of length 1": "the other one looks like boxes",
    "features, then logits": "the other one is an intermediate result",
    "without a difference": "its name suggests scores",
    "the same, Softmax at the second": "it ends in Softmax or Sigmoid",
    "by its name": "the other one looks like boxes",
    "auxiliary first": "it uses more of the model",
}


@pytest.mark.parametrize("name", SEVERAL)
def test_output_with_strongest_evidence_is_chosen(name: str) -> None:
    outputs, body, logits, rejected = SEVERAL[name]
    loaded = load(build(outputs, body))
    model, score = ensure_class_scores(loaded)
    assert score.logits == logits
    (notice,) = model.notices
    assert notice.startswith("of 2 outputs, ")
    assert f"is explained ({REASONS[name]}" in notice
    assert f"--output NAME chooses another: {rejected} [" in notice
    named, named_score = ensure_class_scores(loaded, rejected)
    assert named_score.output in (rejected, CLASS_SCORES)
    assert not any("of 2 outputs, " in text for text in named.notices)


QUERIES = """r = Reshape(features, flat) k = MatMul(queries, r) s = Softmax<axis = -1>(k)
    t = Transpose<perm = [0, 2, 1]>(r) o = MatMul(s, t) y = MatMul(o, m) b = MatMul(o, corners)
    z = Sigmoid(b)"""


@pytest.mark.parametrize("outputs", ["y", "z, y"])
def test_scores_of_queries_are_preferred_to_boxes(outputs: str) -> None:
    shapes = {"y": "float[N, 10, 6] y", "z": "float[N, 10, 4] z"}
    declared = ", ".join(shapes[name] for name in outputs.split(", "))
    model, score = ensure_class_scores(load(build(declared, QUERIES)))
    assert (score.logits, score.classes) == (CLASS_SCORES, 6)
    assert any("y has 6 numbers per box" in notice for notice in model.notices)


GRIDS = """grid = Reshape(features, flat) swapped = Transpose<perm = [0, 2, 1]>(grid) deep = Tanh(swapped)
    p0 = MatMul(swapped, m) q0 = MatMul(swapped, corners) p1 = MatMul(deep, m) q1 = MatMul(deep, corners)"""


@pytest.mark.parametrize(
    ("outputs", "explained", "rejected"),
    [
        ("p0 q0 p1 q1", "of 4 outputs, p0 [X], p1 [X] are explained (", ": q0 [Y], q1 [Y]"),
        ("q1 p1 q0 p0", "of 4 outputs, p1 [X], p0 [X] are explained (", ": q1 [Y], q0 [Y]"),
        ("p0 q0 q1", "of 3 outputs, p0 [X] is explained (", ": q0 [Y], q1 [Y]"),
        ("p0 p1 q0", "of 3 outputs, p0 [X], p1 [X] are explained (", ": q0 [Y]"),
    ],
)
def test_notice_names_all_explained_heads(outputs: str, explained: str, rejected: str) -> None:
    sizes = {"p0": 6, "q0": 4, "p1": 6, "q1": 4}
    declared = ", ".join(f"float[N, 64, {sizes[name]}] {name}" for name in outputs.split())
    model, _ = ensure_class_scores(load(build(declared, GRIDS)))
    notice = re.sub(r"\[[^]]*, 6\]", "[X]", re.sub(r"\[[^]]*, 4\]", "[Y]", model.notices[0]))
    assert notice.startswith(explained)
    assert notice.endswith(rejected)


def test_probability_without_class_axis_is_one_class() -> None:
    """(N,) after a Sigmoid: one logit."""
    body = f"{POOL} g = MatMul(f, n) b = Sigmoid(g) y = Squeeze(b, axis)"
    model, score = ensure_class_scores(load(build("float[N] y", body)))
    assert (score.output, score.logits, score.output_activation) == ("y", "g", "Sigmoid")
    explainer = onnxcam.Explainer(model, "grad-cam", "features", score="probability", device="cpu")
    assert explainer(random_images(2), target="not 0").maps.shape == (2, 8, 8)


def test_logits_and_their_probabilities_are_one_head() -> None:
    body = f"{LOGITS} prob = Softmax<axis = 1>(logits)"
    model, score = ensure_class_scores(load(build("float[N, 6] logits, float[N, 6] prob", body)))
    assert (score.output, score.logits, score.output_activation) == ("prob", "logits", "Softmax")
    assert model.notices == ()


@pytest.mark.parametrize(("labels", "logits"), [(6, "few"), (90, "many")])
def test_output_with_one_score_per_label_is_chosen(labels: int, logits: str) -> None:
    body = f"{POOL} few = MatMul(f, m) many = MatMul(f, wide)"
    names = str([f"name {i}" for i in range(labels)])
    proto = build("float[N, 6] few, float[N, 90] many", body, names=names)
    model, score = ensure_class_scores(load(proto))
    assert score.logits == logits
    assert "it has one score per label" in model.notices[0]


# Outputs that are not tensors

LABEL = "best = ArgMax<axis = 1, keepdims = 0>(logits) prob = Softmax<axis = 1>(logits)"


def with_map(batch: str) -> onnx.ModelProto:
    """As scikit-learn converters write it: a label, and a list of maps."""
    proto = build(f"int64[{batch}] best", f"{LOGITS} {LABEL}", batch)
    helper = onnx.helper
    node = helper.make_node(
        "ZipMap", ["prob"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=range(6)
    )
    value = helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [])
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(onnx.TensorProto.INT64, value)
    )
    proto.graph.node.append(node)
    proto.graph.output.append(helper.make_value_info("maps", kind))
    return proto


@pytest.mark.parametrize("batch", ["N", "1"])
def test_scores_in_map_are_explained(batch: str) -> None:
    explainer = onnxcam.Explainer(load(with_map(batch)), "grad-cam", "features", device="cpu")
    assert explainer.plan.score.logits == "logits"
    assert any(
        "maps is not a tensor, so prob, which it is made from, is explained" in notice
        for notice in explainer.notices
    )
    assert explainer(random_images(2), target=3).maps.shape == (2, 8, 8)


def test_integer_labels_next_to_probabilities_are_ignored() -> None:
    outputs = "int64[N] best, float[N, 6] prob"
    model, score = ensure_class_scores(load(build(outputs, f"{LOGITS} {LABEL}")))
    assert (score.output, score.logits) == ("prob", "logits")
    assert model.notices == ()


def test_scores_in_sequence_are_explained() -> None:
    body = f"{LOGITS} y = SequenceConstruct(logits)"
    proto = build("float[N, 6] dummy", f"{body} dummy = Identity(logits)")
    kind = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, ["N", 6])
    proto.graph.output[0].CopyFrom(
        onnx.helper.make_value_info("y", onnx.helper.make_sequence_type_proto(kind))
    )
    model, score = ensure_class_scores(load(proto))
    assert score.logits == "logits"
    assert "y is not a tensor, so logits, which it is made from, is explained" in model.notices[0]
