"""Targets are parsed as specified, and targets that do not exist are refused."""

from typing import Any

import numpy as np
import pytest

from onnxcam.errors import TargetError, UnknownNameError
from onnxcam.targets.classes import parse_target, single_logit_notice
from onnxcam.targets.target import Target

LABELS = ("tabby cat", "tiger cat", "T-shirt", "Bus", "bus")
SCORES = np.array([0.5, 3.0, -1.0, 3.0, 2.0])


def parse(spec: Any, labels: Any = LABELS) -> Target:
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
def test_single_class_specs(spec: Any, index: int) -> None:
    target = parse(spec)
    assert (target.index, target.name, target.spec) == (index, LABELS[index], str(index))
    np.testing.assert_array_equal(target.weights, one_hot(index))


def test_class_without_label_is_named_by_number() -> None:
    assert parse("top1", None).name == "class 1"
    assert parse(4, LABELS[:2]).name == "class 4"


@pytest.mark.parametrize(
    ("spec", "first", "contrasted"),
    [
        ("1-0", 1, [0]),
        ("1 - 0", 1, [0]),
        ("1-0-4", 1, [0, 4]),
        ("1-0-0", 1, [0]),
        ("tiger cat-tabby cat", 1, [0]),
        ("T-shirt - tabby cat", 2, [0]),
    ],
)
def test_contrast_subtracts_mean_of_other_classes(
    spec: str, first: int, contrasted: list[int]
) -> None:
    target = parse(spec)
    expected = one_hot(first) - np.mean([one_hot(index) for index in contrasted], axis=0)
    np.testing.assert_allclose(target.weights, expected)
    assert target.index == first
    assert target.name == f"{LABELS[first]} - {', '.join(LABELS[index] for index in contrasted)}"
    np.testing.assert_allclose(target.score(SCORES[None]), [SCORES @ expected])
    np.testing.assert_array_equal(parse(target.spec).weights, target.weights)


def test_scores_are_summed_in_float64() -> None:
    assert parse(1).score(np.ones((3, 5), np.float16)).dtype == np.float64


@pytest.mark.parametrize("spec", ["top0", "top6", -1, 5, "5", "-5", "0-5", "1-1", np.int64(7)])
def test_missing_class_is_refused(spec: Any) -> None:
    with pytest.raises(TargetError) as caught:
        parse(spec)
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
def test_unknown_label_is_refused(spec: Any) -> None:
    with pytest.raises(UnknownNameError, match="no label"):
        parse(spec)


def test_close_labels_are_named() -> None:
    with pytest.raises(UnknownNameError, match="did you mean tabby cat"):
        parse("tabby cta")
    with pytest.raises(UnknownNameError, match="--labels FILE"):
        parse("tabby cat", None)


def test_ambiguous_case_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="'BUS'"):
        parse("BUS")


def test_label_without_class_is_refused() -> None:
    """1001 labels for 1000 classes: an off-by-one that must not end in an IndexError."""
    with pytest.raises(TargetError, match="target 5: the model has 5 classes"):
        parse("background", (*LABELS, "background"))


@pytest.mark.parametrize(
    ("spec", "index", "name", "normalized"),
    [
        ("not 3", 3, "not Bus", "not 3"),
        ("NOT  T-shirt", 2, "not T-shirt", "not 2"),
        ("not tiger cat", 1, "not tiger cat", "not 1"),
        ("not class:4", 4, "not bus", "not 4"),
        ("not top1", 1, "not tiger cat", "not 1"),
    ],
)
def test_not_selects_evidence_against_class(
    spec: str, index: int, name: str, normalized: str
) -> None:
    target = parse(spec)
    assert (target.index, target.name, target.spec) == (index, name, normalized)
    np.testing.assert_array_equal(target.weights, -one_hot(index))
    np.testing.assert_array_equal(parse(target.spec).weights, target.weights)


def test_exact_label_precedes_not_and_contrast() -> None:
    labels = ("ripe", "not ripe", "1-0", "class:4", "x")
    for index, label in enumerate(labels):
        assert parse(label, labels).index == index
    assert parse("not not ripe", labels).weights[1] == -1
    assert parse("ripe - not ripe", labels).spec == "0-1"
    assert parse("class:1-class:0", labels).spec == "class:1-class:0"  # "1-0" is class 2


def test_not_before_contrast_is_refused() -> None:
    with pytest.raises(TargetError, match="'not' takes a single class"):
        parse("not 1-0")


NUMBERS = ("2", "0", "1", "3", "3")


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("against", [False, True])
def test_spec_selects_same_class_if_labels_are_numbers(index: int, against: bool) -> None:
    """The specification in a manifest selects the class that was explained, not the class with that label."""
    target = parse(f"not class:{index}" if against else f"class:{index}", NUMBERS)
    assert target.index == index
    assert parse(target.spec, NUMBERS).index == index
    np.testing.assert_array_equal(parse(target.spec, NUMBERS).weights, target.weights)
    assert parse(index, NUMBERS).spec == (f"class:{index}" if str(index) in NUMBERS else str(index))


def test_number_selects_label_before_index() -> None:
    assert parse("2", NUMBERS).index == parse("label:2", NUMBERS).index == 0
    assert parse(2, NUMBERS).index == parse("class:2", NUMBERS).index == 2
    assert parse("4", NUMBERS).index == 4  # no label
    assert parse("3", ("0", "1", "2", "3", "4")).spec == "3"
    with pytest.raises(UnknownNameError):
        parse("label:4", NUMBERS)


@pytest.mark.parametrize("spec", ["crane", "not crane", "crane - drake", "label:crane"])
def test_duplicate_label_is_refused(spec: str) -> None:
    labels = ("crane", "drake", "crane", "-", "-")
    with pytest.raises(TargetError, match=r"2 classes have this label \(0, 2\); use the index"):
        parse(spec, labels)
    assert parse("drake", labels).index == 1  # duplicates of other labels do not matter
    assert parse(2, labels).name == "crane"


@pytest.mark.parametrize("labels", [None, ("cat",), ("a", "b", "c")])
def test_single_logit_has_two_sides(labels: Any) -> None:
    for spec, sign in (("top1", 1), (0, 1), ("not 0", -1), ("not top1", -1)):
        target = parse_target(spec, 1, labels, np.array([-3.0]))
        assert target.weights.tolist() == [sign]
        assert parse_target(target.spec, 1, labels, None).weights.tolist() == [sign]
    with pytest.raises(TargetError, match="expected 0 or 'not 0'"):
        parse_target(1, 1, labels, None)


@pytest.mark.parametrize("labels", [("no", "yes"), ("0", "1"), ("1", "0"), ("not yes", "yes")])
@pytest.mark.parametrize(
    ("logit", "middle", "sign"), [(2.0, 0.0, 1), (-2.0, 0.0, -1), (0.6, 0.5, 1), (0.4, 0.5, -1)]
)
def test_single_logit_with_two_labels_has_two_classes(
    labels: Any, logit: float, middle: float, sign: int
) -> None:
    scores = np.array([logit])
    first, second = labels[sign > 0], labels[sign < 0]
    for spec, name, weight in (
        ("top1", first, sign),
        ("top2", second, -sign),
        ("not top1", second, -sign),
        (labels[0], labels[0], -1),
        (labels[1], labels[1], 1),
        (f"not {labels[1]}", labels[0], -1),
        ("class:0", labels[1], 1),
    ):
        target = parse_target(spec, 1, labels, scores, middle)
        assert (target.name, target.weights.tolist(), target.index) == (name, [weight], 0)
        repeated = parse_target(target.spec, 1, labels, None)
        assert (repeated.name, repeated.weights.tolist()) == (name, [weight])
    with pytest.raises(TargetError, match="2 classes; expected top1 to top2"):
        parse_target("top3", 1, labels, scores)


def test_class_with_empty_label_is_named_by_number() -> None:
    assert parse(0, ("", "b")).name == "class 0"


def test_single_logit_notice_names_labels() -> None:
    assert single_logit_notice(2, ("a", "b")) is None
    assert "'yes'" in str(single_logit_notice(1, ("no", "yes")))
    assert "not 0" in str(single_logit_notice(1, None))
