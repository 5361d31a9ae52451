"""Kinds of targets: matched by their patterns, and written from the groups that the expression names."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from onnxcam.explain.read_target import kind_of
from onnxcam.targets import TARGETS, TargetKind, find_kind, target_kind
from onnxcam.targets.target import Target


def select(match: re.Match[str], shape: tuple[int, ...]) -> Target:
    return Target(match[0], np.ones(shape), 0, match[0])


def expression(tensors: Mapping[str, Any], tensor: str, power: str) -> Any:
    return tensors[tensor] ** int(power)


KIND = TargetKind(
    "power", re.compile(r"(?P<tensor>\w+)\^(?P<power>\d)(?P<rest>!*)"), expression, select
)


def test_arguments_are_the_groups_that_the_expression_names() -> None:
    """Others, which only choose the cotangent, do not make a plan of their own."""
    matches = [KIND.pattern.fullmatch(text) for text in ("a^2", "a^2!!")]
    assert [KIND.arguments(match) for match in matches if match] == [("a", "2")] * 2


def test_write_calls_the_expression_with_the_arguments() -> None:
    assert KIND.write({"a": 3}, ("a", "2")) == 9
    with pytest.raises(ValueError, match="shorter"):
        KIND.write({"a": 3}, ("a",))


def test_registered_kind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TARGETS, "_values", dict(TARGETS))
    target_kind("power", KIND.pattern.pattern, select)(expression)
    matched = find_kind("  a^3 ")
    assert matched is not None
    assert matched[0].name == "power"
    assert kind_of("a^3", None) == ("power", "a", "3")
    with pytest.raises(ValueError, match="twice"):
        target_kind("power", "x", select)(expression)


@pytest.mark.parametrize(
    "spec", ["top1", "281", 281, "not 281", "281-282", "tabby", "element:logits", ["a"]]
)
def test_class_is_no_kind(spec: object) -> None:
    assert find_kind(spec) is None


def test_exact_label_is_a_class() -> None:
    spec = "element:logits[2]"
    assert kind_of(spec, None) == ("element", "logits")
    assert kind_of(spec, ("cat", spec)) == ()
