"""What commands print. Everything goes through `say`, so that no name from a file or a model can control the
terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from onnxcam.cli.visible_text import visible, width


def say(*lines: object, err: bool = False, bold: bool = False) -> None:
    """Print lines on standard output or standard error; without arguments, an empty line.

    They are made `visible`: a newline within a line, as in the name of a layer, is escaped.
    """
    stream = sys.stderr if err else sys.stdout
    write = getattr(stream, "write_styled", stream.write)
    for line in lines or ("",):
        text = visible(str(line))
        write(f"{_make_bold(text) if bold and stream.isatty() else text}\n")
    stream.flush()


def _make_bold(text: str) -> str:
    is_plain = os.name == "nt" or "NO_COLOR" in os.environ
    return text if is_plain else f"\x1b[1m{text}\x1b[0m"


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under headings, in columns as wide as their widest cell: never cut off, easy to grep."""
    lines = [[visible(str(cell)) for cell in line] for line in (headings, *rows)]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        cells = (_pad(cell, columns) for cell, columns in zip(line, widths, strict=True))
        say("  ".join(cells).rstrip(), bold=number == 0)


def print_facts(pairs: Sequence[tuple[str, object]]) -> None:
    """Print pairs of a name and a fact, in two columns."""
    names = [visible(name) for name, _ in pairs]
    columns = max(map(width, names))
    for name, (_, fact) in zip(names, pairs, strict=True):
        say(f"{_pad(name, columns)}  {fact}".rstrip())


def _pad(text: str, columns: int) -> str:
    return text + " " * (columns - width(text))


def print_json(value: Any) -> None:
    """Print a value as JSON, in ASCII, which any terminal can show."""
    say(*json_text(value, indent=2).splitlines())


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON in printable ASCII (and newlines, with an indent)."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")  # DEL is ASCII, too
