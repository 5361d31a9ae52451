"""Every way to name what is explained, and every way to name what is not there."""

from typing import Any

import numpy as np
import pytest

from onnxcam.errors import TargetError, UnknownNameError
from onnxcam.targets.classes import Target, parse_target, single_logit_notice

LABELS = ("tabby cat", "tiger cat", "T-shirt", "Bus", "bus")
SCORES = np.array([0.5, 3.0, -1.0, 3.0, 2.0])


def found(spec: Any, labels: Any = LABELS) -> Target:
    return parse_target(spec, 5, labels, SCORES)


def one_hot(index: int) -> Any:
    return np.eye(5)[index]


@pytest.mark.parametrize(
    ("spec", "index"),
    [
        ("top1", 1),  # of equal scores the first
        ("top2", 3),
        (" TOP5 ", 2),
        (0, 0),
        (np.int64(4), 4),
        ("4", 4),
        (" 2 ", 2),
        ("2\x1f", 2),  # white space to str.strip, not to int
        ("tiger cat", 1),
        ("Tiger Cat", 1),
        ("bus", 4),
        ("Bus", 3),
        ("T-shirt", 2),
        ("t-shirt", 2),
    ],
)
def test_one_class(spec: Any, index: int) -> None:
    it = found(spec)
    assert (it.index, it.name, it.spec) == (index, LABELS[index], str(index))
    np.testing.assert_array_equal(it.weights, one_hot(index))


def test_without_labels_a_class_is_called_by_its_number() -> None:
    assert found("top1", None).name == "class 1"
    assert found(4, LABELS[:2]).name == "class 4"


@pytest.mark.parametrize(
    ("spec", "first", "others"),
    [
        ("1-0", 1, [0]),
        ("1 - 0", 1, [0]),
        ("1-0-4", 1, [0, 4]),
        ("1-0-0", 1, [0]),
        ("tiger cat-tabby cat", 1, [0]),
        ("T-shirt - tabby cat", 2, [0]),
    ],
)
def test_a_contrast_is_a_class_less_the_mean_of_others(
    spec: str, first: int, others: list[int]
) -> None:
    it = found(spec)
    expected = one_hot(first) - np.mean([one_hot(each) for each in others], axis=0)
    np.testing.assert_allclose(it.weights, expected)
    assert it.index == first
    assert it.name == f"{LABELS[first]} - {', '.join(LABELS[each] for each in others)}"
    np.testing.assert_allclose(it.score(SCORES[None]), [SCORES @ expected])
    np.testing.assert_array_equal(found(it.spec).weights, it.weights)


def test_scores_are_summed_in_float64() -> None:
    assert found(1).score(np.ones((3, 5), np.float16)).dtype == np.float64


@pytest.mark.parametrize("spec", ["top0", "top6", -1, 5, "5", "-5", "0-5", "1-1", np.int64(7)])
def test_a_class_that_is_not_there(spec: Any) -> None:
    with pytest.raises(TargetError) as caught:
        found(spec)
    assert str(spec).lstrip("-").split("-")[-1] in str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        "zebra",
        "",
        "-",
        "0-",
        "top",
        "1.5",
        "tabby",
        "0--1",
        None,
        1.5,
        "9" * 5000,
        "top" + "9" * 5000,
    ],
)
def test_a_label_that_is_not_there(spec: Any) -> None:
    with pytest.raises(UnknownNameError, match="no label"):
        found(spec)


def test_close_labels_are_named() -> None:
    with pytest.raises(UnknownNameError, match="did you mean tabby cat"):
        found("tabby cta")
    with pytest.raises(UnknownNameError, match="--labels FILE"):
        found("tabby cat", None)


def test_upper_and_lower_case_leave_a_doubt() -> None:
    with pytest.raises(UnknownNameError, match="'BUS'"):
        found("BUS")


def test_more_labels_than_classes() -> None:
    """1001 labels for 1000 classes: an off-by-one that must not end in an IndexError."""
    with pytest.raises(TargetError, match="target 5: the model has 5 classes"):
        found("background", (*LABELS, "background"))


@pytest.mark.parametrize(
    ("spec", "index", "name", "again"),
    [
        ("not 3", 3, "not Bus", "not 3"),
        ("NOT  T-shirt", 2, "not T-shirt", "not 2"),
        ("not tiger cat", 1, "not tiger cat", "not 1"),
        ("not class:4", 4, "not bus", "not 4"),
        ("not top1", 1, "not tiger cat", "not 1"),
    ],
)
def test_what_speaks_against_a_class(spec: str, index: int, name: str, again: str) -> None:
    it = found(spec)
    assert (it.index, it.name, it.spec) == (index, name, again)
    np.testing.assert_array_equal(it.weights, -one_hot(index))
    np.testing.assert_array_equal(found(it.spec).weights, it.weights)


def test_a_label_wins_over_not_and_over_a_contrast() -> None:
    labels = ("ripe", "not ripe", "1-0", "class:4", "x")
    for index, label in enumerate(labels):
        assert found(label, labels).index == index
    assert found("not not ripe", labels).weights[1] == -1
    assert found("ripe - not ripe", labels).spec == "0-1"
    assert found("class:1-class:0", labels).spec == "class:1-class:0"  # "1-0" is class 2


def test_not_takes_one_class() -> None:
    with pytest.raises(TargetError, match="'not' takes a single class"):
        found("not 1-0")


NUMBERS = ("2", "0", "1", "3", "3")


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("against", [False, True])
def test_labels_that_are_numbers(index: int, against: bool) -> None:
    """What the manifest keeps means the class that was explained, not the class of that label."""
    it = found("not " * against + f"class:{index}", NUMBERS)
    assert it.index == index
    assert found(it.spec, NUMBERS).index == index
    np.testing.assert_array_equal(found(it.spec, NUMBERS).weights, it.weights)
    assert found(index, NUMBERS).spec == (f"class:{index}" if str(index) in NUMBERS else str(index))


def test_a_number_is_a_label_first() -> None:
    assert found("2", NUMBERS).index == found("label:2", NUMBERS).index == 0
    assert found(2, NUMBERS).index == found("class:2", NUMBERS).index == 2
    assert found("4", NUMBERS).index == 4  # no label
    assert found("3", ("0", "1", "2", "3", "4")).spec == "3"
    with pytest.raises(UnknownNameError):
        found("label:4", NUMBERS)


@pytest.mark.parametrize("spec", ["crane", "not crane", "crane - drake", "label:crane"])
def test_two_classes_of_one_label(spec: str) -> None:
    labels = ("crane", "drake", "crane", "-", "-")
    with pytest.raises(TargetError, match=r"2 classes have this label \(0, 2\); give the index"):
        found(spec, labels)
    assert found("drake", labels).index == 1  # that others share a label is no fault
    assert found(2, labels).name == "crane"


@pytest.mark.parametrize("labels", [None, ("cat",), ("a", "b", "c")])
def test_one_logit_has_two_sides(labels: Any) -> None:
    for spec, sign in (("top1", 1), (0, 1), ("not 0", -1), ("not top1", -1)):
        it = parse_target(spec, 1, labels, np.array([-3.0]))
        assert it.weights.tolist() == [sign]
        assert parse_target(it.spec, 1, labels, None).weights.tolist() == [sign]
    with pytest.raises(TargetError, match="expected 0 or 'not 0'"):
        parse_target(1, 1, labels, None)


@pytest.mark.parametrize("labels", [("no", "yes"), ("0", "1"), ("1", "0"), ("not yes", "yes")])
@pytest.mark.parametrize(
    ("logit", "middle", "sign"), [(2.0, 0.0, 1), (-2.0, 0.0, -1), (0.6, 0.5, 1), (0.4, 0.5, -1)]
)
def test_one_logit_with_two_labels(labels: Any, logit: float, middle: float, sign: int) -> None:
    scores = np.array([logit])
    won, lost = labels[sign > 0], labels[sign < 0]
    for spec, name, weight in (
        ("top1", won, sign),
        ("top2", lost, -sign),
        ("not top1", lost, -sign),
        (labels[0], labels[0], -1),
        (labels[1], labels[1], 1),
        (f"not {labels[1]}", labels[0], -1),
        ("class:0", labels[1], 1),
    ):
        it = parse_target(spec, 1, labels, scores, middle)
        assert (it.name, it.weights.tolist(), it.index) == (name, [weight], 0)
        again = parse_target(it.spec, 1, labels, None)
        assert (again.name, again.weights.tolist()) == (name, [weight])
    with pytest.raises(TargetError, match="2 classes, top1 to top2"):
        parse_target("top3", 1, labels, scores)


def test_a_class_without_a_name_is_called_by_its_number() -> None:
    assert found(0, ("", "b")).name == "class 0"


def test_what_is_assumed_of_one_logit() -> None:
    assert single_logit_notice(2, ("a", "b")) is None
    assert "'yes'" in str(single_logit_notice(1, ("no", "yes")))
    assert "not 0" in str(single_logit_notice(1, None))
