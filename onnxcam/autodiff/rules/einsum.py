"""Einsum: the gradient is another Einsum, with g in place of the operand."""

from __future__ import annotations

import numpy as np

from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph import anp
from onnxcam.graph.dims import broadcast_named_dim
from onnxcam.graph.einsum import Equation, sizes_of
from onnxcam.graph.slicing import arange, dim_size
from onnxcam.graph.tracing import Value

rules = Rules()


def einsum_vjp(g: Value, y: Value, *xs: Value, equation: str, slot: int) -> Value:
    """Einsum-28, y = sum of the product of the xs: the sum of g times the other xs, over axes that x lacks.

    Along an axis that only x has, the result is repeated. Along two axes with the same letter, only the
    diagonal gets a cotangent. Since opset 12.
    """
    parsed = Equation.parse(equation, [operand.ndim for operand in xs])
    x, letters = xs[slot], parsed.operands[slot]
    terms = [(parsed.result, g)] + [
        (term, operand)
        for i, (term, operand) in enumerate(zip(parsed.operands, xs, strict=True))
        if i != slot
    ]
    shared = {letter for term, _ in terms for letter in term}
    result = "".join(letter for letter in dict.fromkeys(letters) if letter in shared)
    cotangent = sum_products(terms, result)
    missing = [
        i for i, letter in enumerate(letters) if letter not in result or letter in letters[:i]
    ]
    if missing:
        cotangent = anp.expand_dims(cotangent, missing)
    return keep_diagonals(expand_to(cotangent, x), x, letters)


def sum_products(terms: list[tuple[str, Value]], result: str) -> Value:
    """The product of the terms, summed over every letter that is not in the result."""
    if len(terms) == 1 and terms[0][0] == result:
        return terms[0][1]
    letters, operands = zip(*terms, strict=True)
    sizes = sizes_of(letters, [operand.shape for operand in operands])
    equation = ",".join(letters) + "->" + result
    shape = tuple(sizes[letter] for letter in result)
    return operands[0].build.op("Einsum", *operands, shape=shape, equation=equation)


def expand_to(cotangent: Value, x: Value) -> Value:
    """The cotangent expanded along axes where its size is 1, or unknown, and that of x is not."""
    pairs = list(zip(x.shape, cotangent.shape, strict=True))
    if all(target in (size, 1) or (isinstance(size, int) and size != 1) for target, size in pairs):
        return cotangent
    shape = tuple(broadcast_named_dim(size, target) for target, size in pairs)
    return x.build.op("Expand", cotangent, x.build.shape_of(x), shape=shape)


def keep_diagonals(value: Value, x: Value, letters: str) -> Value:
    """The value, set to 0 where two axes with the same letter have different positions."""
    for axis, letter in enumerate(letters):
        first = letters.index(letter)
        if first != axis:
            on_diagonal = anp.equal(positions_along(x, first), positions_along(x, axis))
            value = anp.where(on_diagonal, value, 0.0)
    return value


def positions_along(x: Value, axis: int) -> Value:
    """0, 1, 2, … along one axis of x, in a shape that broadcasts over x."""
    build, size = x.build, x.shape[axis]
    shape = [-1 if i == axis else 1 for i in range(x.ndim)]
    if isinstance(size, int):
        return build.constant(np.arange(size).reshape(shape))
    return anp.reshape(arange(dim_size(x, axis)), shape)


rules.variadic("Einsum", einsum_vjp)
