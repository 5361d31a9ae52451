#!/usr/bin/env python3
"""Write the tables of methods: a short one in the README, and one with all columns in that of the methods.

    python -m scripts.methods            # after a method was added or changed

The tables stand between marks, and `tests/scripts/test_methods.py` checks that they are up to date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from onnxcam.methods import METHODS, Method
from onnxcam.methods.embedding import embedding_refusal
from onnxcam.methods.families import FAMILIES

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- methods: written by scripts/methods.py -->", "<!-- methods end -->"


def families() -> Iterator[tuple[str, list[Method]]]:
    """The heading of each family, and its methods."""
    for family, heading in FAMILIES.items():
        members = [method for method in METHODS.values() if method.family == family]
        if members:
            yield heading, members


def short_table() -> Iterator[str]:
    """A line per family, with the names of its methods."""
    yield "| Family | Methods |"
    yield "|---|---|"
    for heading, members in families():
        names = ", ".join(method.name for method in members)
        yield f"| {heading.partition(':')[0]} | {names} |"


def complete_table() -> Iterator[str]:
    """A line per method, family by family."""
    yield "| Method | Place | Runs | Gradient | Embeds | What it computes |"
    yield "|---|---|---|---|---|---|"
    for heading, members in families():
        yield f"| **{heading}** | | | | | |"
        yield from map(_row, members)


def _row(method: Method) -> str:
    passes = "varies" if method.passes is None else str(method.passes)
    gradient = "yes" if method.needs_gradient else "no"
    name = f"`{method.name}`{' ±' if method.signed else ''}"
    embeds = "no" if embedding_refusal(method) else "yes"
    summary = _escape(method.summary)
    return f"| {name} | {method.place} | {passes} | {gradient} | {embeds} | {summary} |"


def _escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([|*_<])", r"\\\1", text)


def replace_between_marks(document: str, lines: Iterable[str]) -> str:
    """The document with other lines between its marks; SystemExit if it has none."""
    before, _, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        sys.exit(f"the document has lost its marks {BEGIN} and {END}")
    return "\n".join([before + BEGIN, *lines, END]) + after


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "README.md": short_table,
    "onnxcam/methods/README.md": complete_table,
}
"""What is written into each document."""


def main() -> None:
    """Write the tables."""
    for name, table in TABLES.items():
        path = ROOT / name
        document = path.read_text(encoding="utf-8")
        path.write_text(replace_between_marks(document, table()), encoding="utf-8")


if __name__ == "__main__":
    main()
