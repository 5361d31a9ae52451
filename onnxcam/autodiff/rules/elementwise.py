"""Elementwise operators, also those that broadcast: one function per input; g is the cotangent of y.

The sweep undoes broadcasting.
"""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Array
from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value

rules = Rules()
vjp = rules.vjp


# Arithmetic
vjp("Add", lambda g, y, a, b: g, lambda g, y, a, b: g)
vjp("Sub", lambda g, y, a, b: g, lambda g, y, a, b: -g)
vjp("Mul", lambda g, y, a, b: g * b, lambda g, y, a, b: g * a)
vjp("Div", lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b)


def mod_vjp_divisor(g: Value, y: Value, a: Value, b: Value, *, fmod: int | None) -> Value:
    """y = a - b round(a / b), so dy/db = -round(a / b): trunc for fmod = 1, else floor (floats: opset 28)."""
    quotient = a / b
    if not fmod:
        return -g * anp.floor(quotient)
    return -g * anp.sign(quotient) * anp.floor(anp.abs(quotient))


vjp("Mod", lambda g, y, a, b: g, mod_vjp_divisor)
vjp("Neg", lambda g, y, x: -g)
vjp("Reciprocal", lambda g, y, x: -g * y * y)
vjp("Abs", lambda g, y, x: g * anp.sign(x))
rules.variadic("Sum", lambda g, y, *xs: g)
rules.variadic("Mean", lambda g, y, *xs: g / len(xs))

# Powers, exponentials


def _times_slope(g: Value, slope: Value) -> Value:
    """The product; 0 where the cotangent is 0, even if the slope is infinite there: no NaN may reach tensors
    that the score ignores. Where the score depends on such a cell, the gradient is infinite, and is reported.
    """
    return anp.where(anp.equal(g, 0.0), g.constant_like(0.0), g * slope)


vjp("Exp", lambda g, y, x: g * y)
vjp("Log", lambda g, y, x: g / x)
vjp("Sqrt", lambda g, y, x: _times_slope(g, 0.5 / y))
vjp("Erf", lambda g, y, x: g * anp.exp(np.log(2 / np.sqrt(np.pi)) - x * x))


def pow_vjp_base(g: Value, y: Value, x: Value, p: Value) -> Value:
    """d x^p / dx = p x^(p-1)."""
    p = p.astype(x.dtype)
    if p.constant is not None and np.all(p.constant == 2):
        return g * (x + x)
    exponents = None if p.constant is None else np.asarray(p.constant, np.float64)
    has_infinite_slope = exponents is not None and np.all((exponents > 0) & (exponents < 1))
    slope = p * x ** (p - 1.0)
    return _times_slope(g, slope) if has_infinite_slope else g * slope


def pow_vjp_exponent(g: Value, y: Value, x: Value, p: Value) -> Value:
    """d x^p / dp = y log x, 0 where x is not positive (as torch has it at 0)."""
    positive = x > 0
    return g * anp.where(positive, y * anp.log(anp.where(positive, x, 1.0)), 0.0)


vjp("Pow", pow_vjp_base, pow_vjp_exponent)

# Trigonometry
vjp("Sin", lambda g, y, x: g * anp.cos(x))
vjp("Cos", lambda g, y, x: -g * anp.sin(x))
vjp("Tan", lambda g, y, x: g * (1.0 + y * y))
vjp("Tanh", lambda g, y, x: g * (1.0 - y * y))
vjp("Sinh", lambda g, y, x: g * anp.cosh(x))
vjp("Cosh", lambda g, y, x: g * anp.sinh(x))
vjp("Asin", lambda g, y, x: g / anp.sqrt(1.0 - x * x))
vjp("Acos", lambda g, y, x: -g / anp.sqrt(1.0 - x * x))
vjp("Atan", lambda g, y, x: g / (1.0 + x * x))
vjp("Asinh", lambda g, y, x: g / anp.sqrt(x * x + 1.0))
vjp("Acosh", lambda g, y, x: g / anp.sqrt(x * x - 1.0))
vjp("Atanh", lambda g, y, x: g / (1.0 - x * x))

# Choices. Equal operands get equal shares, as in torch.maximum and torch.amax.


def _split_ties(chosen: list[Value], slot: int, g: Value) -> Value:
    """g / number of operands that equal the extremum, for those that do."""
    ones = [mask.astype(g.dtype) for mask in chosen]
    return g * ones[slot] / sum(ones[1:], start=ones[0]) if len(ones) > 1 else g


rules.variadic("Max", lambda g, y, *xs, slot: _split_ties([x >= y for x in xs], slot, g))
rules.variadic("Min", lambda g, y, *xs, slot: _split_ties([x <= y for x in xs], slot, g))
vjp(
    "Where",
    None,
    lambda g, y, c, a, b: anp.where(c, g, 0.0),
    lambda g, y, c, a, b: anp.where(c, 0.0, g),
)

# The identity
vjp("Identity", lambda g, y, x: g)
vjp("Cast", lambda g, y, x: g)
vjp("CastLike", lambda g, y, x, like: g)


def dropout_vjp(
    g: Value,
    y: Value,
    x: Value,
    *,
    ratio: Array | Value | float,
    training_mode: Array | Value | None,
) -> Value:
    """Inference only: the identity. (`passes/canonicalize` removes a Dropout whose mask is not read.)"""
    is_off = training_mode is None or (not isinstance(training_mode, Value) and not training_mode)
    if not is_off and (isinstance(ratio, Value) or ratio is None or np.any(ratio)):
        raise ModelError(
            f"the Dropout that writes {y.name!r} drops values at random; export the model in inference mode"
        )
    return g


vjp("Dropout", dropout_vjp)
