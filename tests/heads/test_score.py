"""The scores of a classifier, and the logits before their last Softmax or Sigmoid."""

import pytest

from onnxcam.errors import ModelError, UnknownNameError
from onnxcam.heads.score import find_score
from onnxcam.specs import Score
from tests.model.support.texts import load_text

HEAD = "(float[N, 5, 1, 1] x) => (float[N, 5] y)"


@pytest.mark.parametrize(
    ("body", "logits", "activation"),
    [
        ("y = Flatten(x)", "y", None),
        ("f = Flatten(x) y = Softmax(f)", "f", "Softmax"),
        ("f = Flatten(x) y = LogSoftmax(f)", "f", "LogSoftmax"),
        ("f = Flatten(x) y = Sigmoid(f)", "f", "Sigmoid"),
        ("s = Softmax<axis = 1>(x) y = Flatten(s)", "x", "Softmax"),
        ("s = Softmax<axis = 1>(x) r = Flatten(s) y = Cast<to = 1>(r)", "x", "Softmax"),
        ("f = Flatten(x) g = Sigmoid(f) y = Mul(f, g)", "y", None),  # a gate is not a probability
    ],
)
def test_logits_are_before_last_activation(body: str, logits: str, activation: str | None) -> None:
    assert find_score(load_text(f"{HEAD} {{ {body} }}")) == Score(
        "y", logits, activation, 5, exact_activation=activation is not None
    )


@pytest.mark.parametrize(
    ("shape", "classes"),
    [("N, 7", 7), ("1, 7", 7), ("N, 7, 1, 1", 7), ("N, 1, 1, 7", 7), ("N, 1", 1), ("N, 1, 1", 1)],
)
def test_class_count_of_shape(shape: str, classes: int) -> None:
    score = find_score(load_text(f"(float[{shape}] x) => (float[{shape}] y) {{ y = Relu(x) }}"))
    assert score.classes == classes


def test_softmax_over_groups_is_not_of_classes() -> None:
    """Two Softmax outputs side by side become class scores only when they are flattened."""
    model = load_text(
        "(float[N, 2, 5] x) => (float[N, 10] y) { s = Softmax<axis = -1>(x) y = Flatten(s) }"
    )
    assert find_score(model) == Score("y", "y", None, 10, probability=True)


@pytest.mark.parametrize("shape", ["N, 3, 7", "N, 3, 8, 8", "N, C", "N", "7"])
def test_model_without_class_scores_is_refused(shape: str) -> None:
    model = load_text(f"(float[{shape}] x) => (float[{shape}] y) {{ y = Relu(x) }}")
    with pytest.raises(
        ModelError, match=r"no output has one score per class \(its outputs: y .*--output"
    ):
        find_score(model)


TWO = """(float[N, 5] x) => (float[N, 4, 5] boxes, int64[N, 5] best, float[N, 5] y) {
    k = Constant<value_ints = [1]>()
    u = Unsqueeze(x, k)
    boxes = Concat<axis = 1>(u, u, u, u)
    best = Cast<to = 7>(x)
    y = Sigmoid(x) }"""


@pytest.mark.parametrize(
    ("shape", "is_dense"),
    [("N, 21, 8, 8", True), ("N, 84, 8400", True), ("N", False), ("N, C", False)],
)
def test_pooling_is_suggested_for_dense_scores_only(shape: str, is_dense: bool) -> None:
    """Segmenters and detectors can be pooled; others have nothing to pool over."""
    model = load_text(f"(float[{shape}] x) => (float[{shape}] y) {{ y = Relu(x) }}")
    with pytest.raises(ModelError) as caught:
        find_score(model)
    assert ("add the mean or maximum over all pixels or boxes" in str(caught.value)) is is_dense


def test_first_output_with_class_scores_is_chosen() -> None:
    assert find_score(load_text(TWO)) == Score("y", "x", "Sigmoid", 5, exact_activation=True)


def test_named_tensor_is_score() -> None:
    model = load_text(f"{HEAD} {{ f = Flatten(x) y = Softmax(f) }}")
    assert find_score(model, "f") == Score("f", "f", None, 5)
    assert find_score(model, "y") == Score("y", "f", "Softmax", 5, exact_activation=True)


def test_unknown_tensor_name_raises_error() -> None:
    with pytest.raises(UnknownNameError, match="no tensor 'boxs'; did you mean boxes"):
        find_score(load_text(TWO), "boxs")
    with pytest.raises(UnknownNameError, match="outputs: boxes"):
        find_score(load_text(TWO), "qqq")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("boxes", r"\['N', 4, 5\] does not have one score per class"),
        ("best", "has the dtype int64"),
    ],
)
def test_named_tensor_without_scores_is_refused(name: str, why: str) -> None:
    with pytest.raises(ModelError, match=f"'{name}' {why}"):
        find_score(load_text(TWO), name)


STEPS = """
    s = Constant<value_float = 0.1>()
    z = Cast<to = 3>(zero)"""
ROUNDED = (
    "(float[N, 5] x) => ({kind}[N, 5] y) {{ zero = Constant<value_float = 0.0>() {steps} {body} }}"
)


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("int8", "y = QuantizeLinear(x, s, z)", Score("x", "x", None, 5)),
        (
            "float",
            "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)",
            Score("x", "x", None, 5),
        ),
        ("int8", "p = Softmax(x) y = QuantizeLinear(p, s, z)", Score("p", "x", "Softmax", 5)),
        (
            "int8",
            """a = Abs(x) q = QuantizeLinear(a, s, z) d = DequantizeLinear(q, s, z) p = Softmax(d)
            y = QuantizeLinear(p, s, z)""",
            Score("p", "a", "Softmax", 5),
        ),
        (
            "int8",
            """a = Abs(x) q = QuantizeLinear(a, s, z) f = Flatten(q) d = DequantizeLinear(f, s, z)
            p = Sigmoid(d) y = QuantizeLinear(p, s, z)""",
            Score("p", "a", "Sigmoid", 5),
        ),
    ],
)
def test_quantized_scores_are_read_before_rounding(kind: str, body: str, expected: Score) -> None:
    text = ROUNDED.format(kind=kind, steps=STEPS, body=body)
    score = find_score(load_text(text))
    assert (score.output, score.logits, score.output_activation) == (
        expected.output,
        expected.logits,
        expected.output_activation,
    )


def test_integers_without_quantization_are_refused() -> None:
    model = load_text("(float[N, 5] x) => (int8[N, 5] y) { y = Cast<to = 3>(x) }")
    with pytest.raises(
        ModelError, match="'y' has the dtype int8, and no gradient flows through integers"
    ):
        find_score(model)
