"""Tables of rules are found by their files, and can be added from outside."""

from typing import Any

import numpy as np
import pytest

from onnxcam.autodiff import tables
from onnxcam.autodiff.rule_table import Rules
from onnxcam.autodiff.rules import DEFAULT, rule_modules
from onnxcam.autodiff.tables import RULE_TABLES
from onnxcam.errors import OnnxcamError
from tests.autodiff.support.bent import bent_gradient, written
from tests.autodiff.support.check import numbers


def test_every_file_is_a_table() -> None:
    names = {name.replace("_", "-") for name in rule_modules(tables.__path__)}
    assert names == set(RULE_TABLES)
    assert RULE_TABLES["default"] is DEFAULT


def test_bent_table_has_all_operators_of_the_default() -> None:
    for rules in RULE_TABLES.values():
        assert rules.keys() >= DEFAULT.keys()


def test_unknown_table_is_refused_with_the_known_ones() -> None:
    with pytest.raises(OnnxcamError, match="guided"):
        RULE_TABLES["guidde"]


def test_table_from_outside_is_used_by_its_name(monkeypatch: Any) -> None:
    straight_through = Rules()
    straight_through.vjp("Relu", lambda g, y, x: g)
    monkeypatch.setattr(RULE_TABLES, "_values", dict(RULE_TABLES))
    RULE_TABLES.add("straight-through", DEFAULT | straight_through)
    seed = numbers(2, 4, 3, 3, seed=1)
    result = bent_gradient(written("y = Relu(x)"), "straight-through", numbers(2, 4, 3, 3), seed)
    np.testing.assert_array_equal(result, seed)
