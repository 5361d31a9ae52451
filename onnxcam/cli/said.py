"""What commands say: tables of aligned columns, and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from typer import echo, style


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows under headings, in columns as wide as their widest entry: never cut off, easy to grep."""
    lines = [list(headings), *([str(each) for each in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        echo(text.rstrip() if number else style(text.rstrip(), bold=True))


def facts(pairs: Sequence[tuple[str, object]]) -> None:
    """Names and what there is to say of them."""
    width = max(len(name) for name, _ in pairs)
    for name, fact in pairs:
        echo(f"{name.ljust(width)}  {fact}".rstrip())


def as_json(value: Any) -> None:
    """A value for programs; ASCII, so that any terminal and any file name will do."""
    echo(json.dumps(value, indent=2))
