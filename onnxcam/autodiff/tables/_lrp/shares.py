"""Relevance by the share of the inputs: what an input adds to y, as a part of y."""

from __future__ import annotations

from functools import wraps
from typing import Any

from onnxcam.autodiff.rule_table import Absorb, Vjp
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value

EPSILON = 1e-6
TINY = 1e-30  # less than any number that counts


def divide(r: Value, y: Value) -> Value:
    """r / (y + epsilon sign(y)), where 0 has the sign 1."""
    return r / (y + anp.where(y < 0, y.constant_like(-EPSILON), y.constant_like(EPSILON)))


def shared(vjp: Vjp, slot: int) -> Vjp:
    """x times the gradient of r / y: what is exact for functions that are linear in x, and of degree 1."""

    @wraps(vjp)
    def shared_vjp(r: Value, y: Value, *xs: Value, **settings: Any) -> Value:
        return xs[slot] * vjp(divide(r, y), y, *xs, **settings)

    return shared_vjp


def share_of_input(r: Value, x: Value, bias: Value, absorb: Absorb) -> Value:
    """The part of r that x gets beside a constant that is added to it, which absorbs the rest: by their
    magnitudes, so that relevance does not grow where the two nearly cancel (Hui and Binder 2019).
    """
    magnitude = anp.abs(x)
    share = r * magnitude / (magnitude + anp.abs(bias) + TINY)
    absorb(r - share)
    return share


def passed(r: Value, y: Value, x: Value, *_: Any) -> Value:
    """All of r."""
    return r
