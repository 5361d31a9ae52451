"""Sums of products over named axes: the gradient of one is another, with g in the operand's place."""

from __future__ import annotations

from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph.dims import broadcast_named_dim
from onnxcam.graph.einsum import Equation, sizes_of
from onnxcam.graph.slicing import dim_size
from onnxcam.graph.value import Value, np

rules = Rules()


def einsum(g: Value, y: Value, *xs: Value, equation: str, slot: int) -> Value:
    """sum g (product of the others) over what the operand does not have.

    An axis that was summed all by itself comes back evenly; of an axis that is there twice, only
    the diagonal was read.
    """
    written = Equation.read(equation, [each.ndim for each in xs])
    x, own = xs[slot], written.operands[slot]
    terms = [(written.result, g)] + [
        (term, each)
        for i, (term, each) in enumerate(zip(written.operands, xs, strict=True))
        if i != slot
    ]
    present = {letter for term, _ in terms for letter in term}
    kept = "".join(letter for letter in dict.fromkeys(own) if letter in present)
    found = summed(terms, kept)
    absent = [i for i, letter in enumerate(own) if letter not in kept or letter in own[:i]]
    if absent:
        found = np.expand_dims(found, absent)
    return on_diagonals(spread(found, x), x, own)


def summed(terms: list[tuple[str, Value]], kept: str) -> Value:
    """The product of the terms summed over every letter but those kept."""
    if len(terms) == 1 and terms[0][0] == kept:
        return terms[0][1]
    letters = [term for term, _ in terms]
    sizes = sizes_of(letters, [each.shape for _, each in terms])
    equation = ",".join(letters) + "->" + kept
    shape = tuple(sizes[letter] for letter in kept)
    operands = [each for _, each in terms]
    return terms[0][1].build.op("Einsum", *operands, shape=shape, equation=equation)


def spread(found: Value, x: Value) -> Value:
    """Repeated along the axes where it is one and x is more, or where that is not known."""
    pairs = list(zip(x.shape, found.shape, strict=True))
    if all(own in (wide, 1) or (isinstance(wide, int) and wide != 1) for own, wide in pairs):
        return found
    shape = tuple(broadcast_named_dim(wide, own) for own, wide in pairs)
    return x.build.op("Expand", found, x.build.shape_of(x), shape=shape)


def on_diagonals(value: Value, x: Value, own: str) -> Value:
    """Zero wherever two axes of one letter are at different places."""
    for axis, letter in enumerate(own):
        first = own.index(letter)
        if first != axis:
            places = [along(x, each) for each in (first, axis)]
            value = np.where(np.equal(*places), value, 0.0)
    return value


def along(x: Value, axis: int) -> Value:
    """0, 1, 2, ... along one axis of x, in a shape that goes with x."""
    build, size = x.build, x.shape[axis]
    shape = [-1 if each == axis else 1 for each in range(x.ndim)]
    if isinstance(size, int):
        return build.constant(np.arange(size).reshape(shape))
    ends = (build.constant(np.array(each, np.int64)) for each in (0, 1))
    start, step = ends
    stop = np.squeeze(dim_size(x, axis), axis=0)
    return np.reshape(build.op("Range", start, stop, step), shape)


rules.variadic("Einsum", einsum)
