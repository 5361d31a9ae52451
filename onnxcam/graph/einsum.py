"""The equations of Einsum."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

from onnxcam.arrays import Dim
from onnxcam.graph.dims import broadcast_named_dim


@dataclass(frozen=True)
class Equation:
    """A letter for every axis of every operand and of the result, the ellipsis written out."""

    operands: tuple[str, ...]
    result: str

    @classmethod
    def read(cls, equation: str, ranks: list[int]) -> Equation:
        """An equation of ONNX for operands of these ranks; spaces mean nothing."""
        left, arrow, right = equation.replace(" ", "").partition("->")
        terms = left.split(",")
        counts = [rank - len(t.replace("...", "")) for t, rank in zip(terms, ranks, strict=True)]
        more = max((n for t, n in zip(terms, counts, strict=True) if "..." in t), default=0)
        free = "".join(each for each in string.ascii_letters if each not in equation)[:more]
        if not arrow:
            right = "..." * ("..." in left) + _once(left.replace("...", ""))
        written = [t.replace("...", free[more - n :]) for t, n in zip(terms, counts, strict=True)]
        return cls(tuple(written), right.replace("...", free))


def _once(letters: str) -> str:
    """The letters that stand there once, in the order of the alphabet: an implicit result."""
    return "".join(
        sorted(each for each in set(letters) if each.isalpha() and letters.count(each) == 1)
    )


def sizes_of(terms: Sequence[str], shapes: Sequence[Sequence[Dim]]) -> dict[str, Dim]:
    """The size of every letter; sizes of 1 go with any other."""
    sizes: dict[str, Dim] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, dim in zip(term, shape, strict=True):
            sizes[letter] = broadcast_named_dim(sizes.get(letter, 1), dim)
    return sizes
