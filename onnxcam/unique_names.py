"""Names of files that differ on every file system: `cat` and `Cat` are one file on some disks."""

from __future__ import annotations

from collections.abc import Iterable


def fold_case(name: str) -> str:
    """The name as case-insensitive file systems see it."""
    return name.casefold()


def make_unique(names: Iterable[str]) -> list[str]:
    """The names, with a number appended to those that occurred before: `cat`, `cat-2`."""
    used: set[str] = set()
    unique_names: list[str] = []
    for name in names:
        unique, number = name, 1
        while fold_case(unique) in used:
            number += 1
            unique = f"{name}-{number}"
        used.add(fold_case(unique))
        unique_names.append(unique)
    return unique_names
