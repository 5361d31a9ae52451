"""Tables of rules are found by their files, and can be added from outside."""

from typing import Any

import numpy as np
import onnx
import pytest

from onnxcam.autodiff import tables
from onnxcam.autodiff.rule_table import Rules
from onnxcam.autodiff.rules import DEFAULT, rule_modules
from onnxcam.autodiff.tables import RULE_TABLES
from onnxcam.errors import OnnxcamError
from onnxcam.model.load import load
from onnxcam.passes.expand_functions import has_function_body
from onnxcam.rewrite.gradient import gradient
from onnxcam.rewrite.per_image import ABSORBED
from onnxcam.specs import SEED
from tests.autodiff.support.bent import bent_gradient, written
from tests.autodiff.support.check import numbers, run


def test_every_file_is_a_table() -> None:
    names = {name.replace("_", "-") for name in rule_modules(tables.__path__)}
    assert names == set(RULE_TABLES)
    assert RULE_TABLES["default"] is DEFAULT


def test_bent_table_has_all_operators_of_the_default() -> None:
    """Or their parts: they are replaced by their definitions."""
    for rules in RULE_TABLES.values():
        missing = DEFAULT.keys() - rules.keys()
        assert all(
            has_function_body(operator, onnx.defs.onnx_opset_version()) for operator in missing
        )


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


def test_table_may_start_with_another_cotangent_than_the_seed() -> None:
    table = Rules(DEFAULT, start=lambda seed, score: seed * score)
    x, seed = numbers(2, 4, 3, 3), numbers(2, 4, 3, 3, seed=1)
    result = bent_gradient(written("y = Neg(x)"), table, x, seed)
    np.testing.assert_allclose(result, seed * x, rtol=1e-6)
    other = Rules()
    other.vjp("Neg", lambda g, y, x: g)
    extended = bent_gradient(written("y = Neg(x)"), table | other, x, seed)
    np.testing.assert_allclose(extended, -seed * x, rtol=1e-6)


def test_rule_without_result_ends_a_branch() -> None:
    """Nothing flows to the second factor, and nothing is computed of what only it depends on."""
    first_only = Rules()
    first_only.vjp("Mul", lambda g, y, a, b: g * b, lambda g, y, a, b: None)
    x, seed = numbers(2, 4, 3, 3), numbers(2, 4, 3, 3, seed=1)
    proto = written("s = Sin(x) y = Mul(x, s)")
    result = bent_gradient(proto, DEFAULT | first_only, x, seed)
    np.testing.assert_allclose(result, seed * np.sin(x), rtol=1e-5, atol=1e-6)
    model = gradient(load(proto), ["x"], "y", DEFAULT | first_only)
    assert "Cos" not in {node.op for node in model.graph.nodes}


def test_score_that_no_rule_leads_to_the_image_is_refused() -> None:
    nowhere = Rules()
    nowhere.vjp("Relu", lambda g, y, x: None)
    with pytest.raises(OnnxcamError, match="no gradient reaches 'x'"):
        gradient(load(written("y = Relu(x)")), ["x"], "y", DEFAULT | nowhere)


def test_relevance_that_rules_absorb_is_another_output() -> None:
    half = Rules()

    def half_vjp(g: Any, y: Any, x: Any, *, absorb: Any) -> Any:
        absorb(g * 0.5)
        return g * 0.5

    half.vjp("Relu", half_vjp)
    x, seed = numbers(2, 4, 3, 3), numbers(2, 4, 3, 3, seed=1)
    augmented = gradient(load(written("y = Relu(x)")), ["x"], "y", DEFAULT | half).proto()
    (absorbed,) = run(augmented, {"x": x, SEED: seed}, [ABSORBED])
    np.testing.assert_allclose(absorbed, seed.sum(axis=(1, 2, 3)) / 2, rtol=1e-4, atol=1e-5)
