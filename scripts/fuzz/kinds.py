"""The kinds of cases, and which case a number means."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from scripts.fuzz.cached import damaged_cache
from scripts.fuzz.case import Case, Maker
from scripts.fuzz.images import damaged_image, damaged_labels, hostile_metadata
from scripts.fuzz.interrupted import interrupted_run
from scripts.fuzz.models import damaged_bytes, damaged_structure
from scripts.fuzz.operators import hostile_operator
from scripts.fuzz.words import odd_words

# name -> its maker, and its share of a hundred cases
KINDS: dict[str, tuple[Maker, int]] = {
    "bytes": (damaged_bytes, 15),
    "structure": (damaged_structure, 25),
    "attributes": (hostile_operator, 30),
    "metadata": (hostile_metadata, 3),
    "images": (damaged_image, 12),
    "labels": (damaged_labels, 4),
    "cache": (damaged_cache, 4),
    "interrupted": (interrupted_run, 4),
    "words": (odd_words, 3),
}


def case_of(name: str, seed: int) -> Case:
    """The case that KIND:NUMBER means."""
    kind, _, number = name.partition(":")
    return KINDS[kind][0](Random(f"{seed}:{kind}:{int(number)}"))


def names(kinds: list[str]) -> Iterator[str]:
    """KIND:NUMBER, endlessly; at any point every kind has had its share."""
    counts = dict.fromkeys(kinds, 0)
    while True:
        kind = min(kinds, key=lambda kind: (counts[kind] + 0.5) / KINDS[kind][1])
        yield f"{kind}:{counts[kind]}"
        counts[kind] += 1
