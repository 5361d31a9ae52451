"""Plans that are written by functions of other packages are not cached: their sources are not in the key."""

from __future__ import annotations

from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxcam.autodiff.rule_table import Rule
from onnxcam.autodiff.tables import RULE_TABLES
from onnxcam.autodiff.tables.deconvnet import deconvolved
from onnxcam.explain.request_code import is_bundled
from onnxcam.methods.method import METHODS, Method, method
from onnxcam.methods.place import PLACES, Place
from onnxcam.methods.quantities import QUANTITIES, quantity
from onnxcam.registry import Registry
from onnxcam.specs import PlanRequest
from onnxcam.targets import TARGETS, target_kind
from tests.explain.support.compiled import X, entries, make_explainer, needs_plan, save
from tests.support.nets import DEEP

REQUEST = PlanRequest("default", ("activation", "gradient"))
ELEMENT = replace(REQUEST, target=("element", "logits"))


@pytest.fixture(autouse=True)
def _registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    registries: list[Registry[Any]] = [METHODS, PLACES, QUANTITIES, RULE_TABLES, TARGETS]
    for registry in registries:
        monkeypatch.setattr(registry, "_values", dict(registry._values))


def relu_vjp(g: Any, y: Any, x: Any) -> Any:
    return g * np.maximum(x, 0.0)


@wraps(RULE_TABLES["default"]["Relu"].functions[0])  # type: ignore[arg-type]
def wrapping_vjp(g: Any, y: Any, x: Any) -> Any:
    return g * 2.0


def double_gradient(gradient: Any, factor: float = 2.0) -> Any:
    return gradient * factor


@pytest.mark.parametrize("bundled", METHODS.values(), ids=lambda bundled: bundled.name)
def test_request_of_bundled_method_is_bundled(bundled: Method) -> None:
    assert is_bundled(bundled.plan_request())
    assert is_bundled(bundled.plan_request(target=("element", "logits")))


@pytest.mark.parametrize("table", RULE_TABLES)
def test_bundled_rule_table_is_bundled(table: str) -> None:
    assert is_bundled(replace(REQUEST, rules=table))


@pytest.mark.parametrize(
    "expression", [double_gradient, partial(double_gradient, factor=3.0), lambda gradient: gradient]
)
def test_quantity_of_another_package_is_not_bundled(expression: Any) -> None:
    quantity("doubled", expression, "2 g")
    assert not is_bundled(replace(REQUEST, quantities=("activation", "doubled")))
    assert is_bundled(REQUEST)


@pytest.mark.parametrize("vjp", [relu_vjp, wrapping_vjp, deconvolved(relu_vjp)])
def test_rule_of_another_package_is_not_bundled(vjp: Any) -> None:
    RULE_TABLES.add("mine", RULE_TABLES["default"] | {"Relu": Rule((vjp,))})
    assert not is_bundled(replace(REQUEST, rules="mine"))
    assert is_bundled(REQUEST)


def test_copied_rules_of_package_are_bundled() -> None:
    RULE_TABLES.add("copy", RULE_TABLES["default"] | {"Relu": RULE_TABLES["guided"]["Relu"]})
    assert is_bundled(replace(REQUEST, rules="copy"))


def test_place_and_target_of_another_package_are_not_bundled() -> None:
    PLACES.add("mine", lambda model: [Place("features")])
    target_kind("mine", "mine:(?P<tensor>.+)", select=None)(  # type: ignore[arg-type]
        lambda tensors, tensor: tensors[tensor]
    )
    assert not is_bundled(replace(REQUEST, at="mine"))
    assert not is_bundled(replace(REQUEST, target=("mine", "logits")))
    assert is_bundled(ELEMENT)


def test_recursive_function_is_bundled_or_not() -> None:
    def recursive(gradient: Any) -> Any:
        return gradient if gradient is None else recursive(None)

    quantity("recursive", recursive, "g")
    assert not is_bundled(replace(REQUEST, quantities=("recursive",)))


def test_plan_with_quantity_of_another_package_is_not_cached(
    tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its expression may change between two runs, and the map changes with it."""
    model = save(tmp_path / "net.onnx", DEEP)
    quantity("mine", lambda gradient: gradient, "g", degree=1)

    @method("mine", source="this test")
    def mine(activation: Any, mine: Any) -> Any:
        """Grad-CAM without a mean."""
        return np.maximum(np.sum(activation * mine, axis=1), 0.0)

    first = make_explainer(model, "mine")(X).layer_maps
    assert first.max() > 0
    assert entries(cache_folder) == []
    assert needs_plan(model, monkeypatch, "mine")
    changed = replace(QUANTITIES["mine"], expression=lambda gradient: gradient * 2.0)
    monkeypatch.setitem(QUANTITIES._values, "mine", changed)
    second = make_explainer(model, "mine")(X).layer_maps
    np.testing.assert_allclose(second, 2 * first, rtol=1e-5)
    assert entries(cache_folder) == []
