"""Every way to name what is explained, and every way to name what is not there."""

from typing import Any

import numpy as np
import pytest

from onnxcam.errors import TargetError, UnknownNameError
from onnxcam.methods.targets import Target, target

LABELS = ("tabby cat", "tiger cat", "T-shirt", "Bus", "bus")
SCORES = np.array([0.5, 3.0, -1.0, 3.0, 2.0])


def found(spec: Any, labels: Any = LABELS) -> Target:
    return target(spec, 5, labels, SCORES)


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
    np.testing.assert_allclose(it.of(SCORES[None]), [SCORES @ expected])
    np.testing.assert_array_equal(found(it.spec).weights, it.weights)


def test_scores_are_summed_in_float64() -> None:
    assert found(1).of(np.ones((3, 5), np.float16)).dtype == np.float64


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
