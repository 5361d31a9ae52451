"""The deconvolutional network (Zeiler and Fergus 2014, arXiv:1311.2901, section 2.1).

relu(g) alone at every rectifier: what is shown does not depend on which of them were active. Pools keep their
switches. See `_rectifiers` for what a rectifier is.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from onnxcam.autodiff.rule_table import Rule, Vjp
from onnxcam.autodiff.rules import DEFAULT
from onnxcam.autodiff.tables._rectifiers import RECTIFIERS, gate_of, is_rectifier, relu
from onnxcam.graph.tracing import Value


def deconvolved(vjp: Vjp) -> Vjp:
    """A rule that returns relu(g) where the node is a rectifier."""

    @wraps(vjp)
    def deconvolved_vjp(g: Value, y: Value, *xs: Value, **settings: Any) -> Value:
        return relu(g) if is_rectifier(y) else vjp(g, y, *xs, **settings)

    return deconvolved_vjp


def product_vjp(g: Value, y: Value, a: Value, b: Value, slot: int) -> Value | None:
    """x gate(x): relu(g) times the gate of a large x, all of it to x."""
    gate = gate_of(y.tensor.inputs[0])
    if gate is None:
        return g * (a if slot else b)
    return None if slot == gate.slot else relu(g) * gate.limit


rules = DEFAULT | {
    **{
        operator: Rule((deconvolved(vjp), *others), DEFAULT[operator].form)
        for operator in RECTIFIERS
        for vjp, *others in [DEFAULT[operator].functions]
        if vjp is not None
    },
    "Mul": Rule(
        (
            lambda g, y, a, b: product_vjp(g, y, a, b, 0),
            lambda g, y, a, b: product_vjp(g, y, a, b, 1),
        )
    ),
}
