"""The scores of a classifier, and the logits before its last Softmax or Sigmoid."""

import pytest

from onnxcam.errors import ModelError, UnknownNameError
from onnxcam.heads.score import find_score
from onnxcam.specs import Score
from tests.model.support.texts import load_text as model

HEAD = "(float[N, 5, 1, 1] x) => (float[N, 5] y)"


@pytest.mark.parametrize(
    ("body", "logits", "squashing"),
    [
        ("y = Flatten(x)", "y", None),
        ("f = Flatten(x) y = Softmax(f)", "f", "Softmax"),
        ("f = Flatten(x) y = LogSoftmax(f)", "f", "LogSoftmax"),
        ("f = Flatten(x) y = Sigmoid(f)", "f", "Sigmoid"),
        ("s = Softmax<axis = 1>(x) y = Flatten(s)", "x", "Softmax"),
        ("s = Softmax<axis = 1>(x) r = Flatten(s) y = Cast<to = 1>(r)", "x", "Softmax"),
        ("f = Flatten(x) g = Sigmoid(f) y = Mul(f, g)", "y", None),  # a gate is no probability
    ],
)
def test_the_logits_are_before_the_last_squashing(
    body: str, logits: str, squashing: str | None
) -> None:
    assert find_score(model(f"{HEAD} {{ {body} }}")) == Score("y", logits, squashing, 5)


@pytest.mark.parametrize(
    ("shape", "classes"),
    [("N, 7", 7), ("1, 7", 7), ("N, 7, 1, 1", 7), ("N, 1, 1, 7", 7), ("N, 1", 1), ("N, 1, 1", 1)],
)
def test_one_number_a_class(shape: str, classes: int) -> None:
    found = find_score(model(f"(float[{shape}] x) => (float[{shape}] y) {{ y = Relu(x) }}"))
    assert found.classes == classes


def test_a_softmax_over_groups_is_not_of_the_classes() -> None:
    """Two softmaxes side by side, one number a class only when they are laid in a row."""
    it = model(
        "(float[N, 2, 5] x) => (float[N, 10] y) { s = Softmax<axis = -1>(x) y = Flatten(s) }"
    )
    assert find_score(it) == Score("y", "y", None, 10, probability=True)


@pytest.mark.parametrize("shape", ["N, 3, 7", "N, 3, 8, 8", "N, C", "N", "7"])
def test_no_output_has_one_number_a_class(shape: str) -> None:
    it = model(f"(float[{shape}] x) => (float[{shape}] y) {{ y = Relu(x) }}")
    with pytest.raises(
        ModelError, match=r"no output has one number a class \(its outputs: y .*--output"
    ):
        find_score(it)


TWO = """(float[N, 5] x) => (float[N, 4, 5] boxes, int64[N, 5] best, float[N, 5] y) {
    k = Constant<value_ints = [1]>()
    u = Unsqueeze(x, k)
    boxes = Concat<axis = 1>(u, u, u, u)
    best = Cast<to = 7>(x)
    y = Sigmoid(x) }"""


@pytest.mark.parametrize(
    ("shape", "told"), [("N, 21, 8, 8", True), ("N, 84, 8400", True), ("N", False), ("N, C", False)]
)
def test_scores_of_every_pixel_or_box(shape: str, told: bool) -> None:
    """Of a segmenter or detector it is said what to add; of others there is nothing to take the mean of."""
    it = model(f"(float[{shape}] x) => (float[{shape}] y) {{ y = Relu(x) }}")
    with pytest.raises(ModelError) as fault:
        find_score(it)
    assert ("add the mean or maximum over all pixels or boxes" in str(fault.value)) is told


def test_the_first_output_that_fits_is_taken() -> None:
    assert find_score(model(TWO)) == Score("y", "x", "Sigmoid", 5)


def test_a_tensor_that_is_named() -> None:
    it = model(f"{HEAD} {{ f = Flatten(x) y = Softmax(f) }}")
    assert find_score(it, "f") == Score("f", "f", None, 5)
    assert find_score(it, "y") == Score("y", "f", "Softmax", 5)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(UnknownNameError, match="no tensor 'boxs'; did you mean boxes"):
        find_score(model(TWO), "boxs")
    with pytest.raises(UnknownNameError, match="outputs: boxes"):
        find_score(model(TWO), "qqq")


@pytest.mark.parametrize(
    ("name", "why"),
    [("boxes", r"\['N', 4, 5\] does not have one number a class"), ("best", "is of int64")],
)
def test_a_tensor_that_holds_no_scores(name: str, why: str) -> None:
    with pytest.raises(ModelError, match=f"'{name}' {why}"):
        find_score(model(TWO), name)


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
def test_quantised_scores_are_read_before_they_are_rounded(
    kind: str, body: str, expected: Score
) -> None:
    text = ROUNDED.format(kind=kind, steps=STEPS, body=body)
    found = find_score(model(text))
    assert (found.output, found.logits, found.output_activation) == (
        expected.output,
        expected.logits,
        expected.output_activation,
    )


def test_whole_numbers_that_were_not_rounded_are_no_scores() -> None:
    it = model("(float[N, 5] x) => (int8[N, 5] y) { y = Cast<to = 3>(x) }")
    with pytest.raises(
        ModelError, match="'y' is of int8, and no gradient flows through whole numbers"
    ):
        find_score(it)
