"""The equations of Einsum: which axes share a letter, and the size of each letter."""

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
    def parse(cls, equation: str, ranks: list[int]) -> Equation:
        """Parse an equation for operands of these ranks; spaces are ignored."""
        operands, arrow, result = equation.replace(" ", "").partition("->")
        terms = operands.split(",")
        counts = [
            rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True)
        ]
        width = max((n for term, n in zip(terms, counts, strict=True) if "..." in term), default=0)
        ellipsis_letters = "".join(
            letter for letter in string.ascii_letters if letter not in equation
        )[:width]
        if not arrow:
            letters = _implicit_result(operands.replace("...", ""))
            result = f"...{letters}" if "..." in operands else letters
        operand_letters = [
            term.replace("...", ellipsis_letters[width - n :])
            for term, n in zip(terms, counts, strict=True)
        ]
        return cls(tuple(operand_letters), result.replace("...", ellipsis_letters))


def _implicit_result(letters: str) -> str:
    """The letters that occur once, in alphabetical order: the implicit result."""
    letters_once = (
        letter for letter in set(letters) if letter.isalpha() and letters.count(letter) == 1
    )
    return "".join(sorted(letters_once))


def sizes_of(terms: Sequence[str], shapes: Sequence[Sequence[Dim]]) -> dict[str, Dim]:
    """The size of every letter; a size of 1 is broadcast to any size."""
    sizes: dict[str, Dim] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, dim in zip(term, shape, strict=True):
            sizes[letter] = broadcast_named_dim(sizes.get(letter, 1), dim)
    return sizes
