#!/usr/bin/env python3
"""Print every text that a user may read: help, errors, and notices.

    python scripts/messages.py             # by module, with line numbers
    python scripts/messages.py onnxcam/cli # of one folder or file

Errors and notices are the texts of at least three words in the source, with `{…}` where values are put in.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import typer

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "onnxcam"
WORDS = 3  # in the shortest text


def text_of(node: ast.expr) -> str:
    """The text of a string or an f-string; "" for any other expression."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    return f"{{{ast.unparse(node.value)}}}" if isinstance(node, ast.FormattedValue) else ""


def docstrings(tree: ast.AST) -> set[int]:
    """The ids of the strings that are statements of their own: docstrings."""
    statements = (node for node in ast.walk(tree) if isinstance(node, ast.Expr))
    return {id(node.value) for node in statements if isinstance(node.value, ast.Constant)}


def parts_of_f_strings(tree: ast.AST) -> set[int]:
    """The ids of the constants inside f-strings, which are read as one text."""
    return {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
        if part is not node
    }


def messages(source: str) -> Iterator[tuple[int, str]]:
    """The line and the text of every message in the source of a module."""
    tree = ast.parse(source)
    ignored = docstrings(tree) | parts_of_f_strings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in ignored:
            text = " ".join(text_of(node).split())
            if len(text.split()) >= WORDS:
                yield node.lineno, text


def print_help() -> None:
    """Print the help of the command and of all its subcommands."""
    from onnxcam.cli.app import app

    group = typer.main.get_command(app)
    for command in (group, *getattr(group, "commands", {}).values()):
        context = typer.Context(command, info_name=command.name)
        print(command.get_help(context), end="\n\n")


def main(paths: list[Path]) -> None:
    if not paths:
        print_help()
    files = [
        path for place in paths or [PACKAGE] for path in sorted(place.rglob("*.py")) or [place]
    ]
    for path in files:
        lines = sorted(set(messages(path.read_text(encoding="utf-8"))))
        if lines:
            print(f"\n{path.resolve().relative_to(ROOT)}")
        for number, text in lines:
            print(f"{number:>5}  {text}")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
