"""Guided backpropagation (Springenberg et al. 2014, arXiv:1412.6806, section 3.4).

Negative cotangents are dropped at every rectifier: where(y > 0, relu(g), 0) at a Relu, and the derivative
times relu(g) at its relatives. See `_rectifiers` for what a rectifier is.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from onnxcam.autodiff.rule_table import Rule, Vjp
from onnxcam.autodiff.rules import DEFAULT
from onnxcam.autodiff.tables._rectifiers import RECTIFIERS, is_rectifier, relu
from onnxcam.graph.tracing import Value


def guided(vjp: Vjp) -> Vjp:
    """A rule that gets relu(g) where the node is a rectifier."""

    @wraps(vjp)
    def guided_vjp(g: Value, y: Value, *xs: Value, **settings: Any) -> Value:
        return vjp(relu(g) if is_rectifier(y) else g, y, *xs, **settings)

    return guided_vjp


def _guided_rule(rule: Rule) -> Rule:
    functions = (vjp if vjp is None else guided(vjp) for vjp in rule.functions)
    return Rule(tuple(functions), rule.form)


rules = DEFAULT | {operator: _guided_rule(DEFAULT[operator]) for operator in RECTIFIERS}
