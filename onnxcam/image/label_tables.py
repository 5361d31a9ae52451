"""Class names in CSV, and in the subset of YAML that lists of names need."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO

NAME_HEADINGS = ("name", "classname", "labelname", "displayname", "label", "class", "category")
INDEX_HEADINGS = (
    *("index", "id", "idx", "classid", "classindex", "classidx", "labelid", "number", ""),
    *("class", "label", "category"),  # of integers, where another column holds the names
)
Names = dict[str, str] | list[str]

_QUOTED = r""""(?:[^"\\]|\\.)*"|'(?:[^']|'')*'"""
# blanks match in one way only: a choice would take time quadratic in their number
_FLOW_SCALAR = rf"(?:{_QUOTED})\s*|[^\s,\[\]{{}}\"'][^,\[\]{{}}]*"
_LIST_PART = re.compile(rf"\s*({_FLOW_SCALAR})(?:,|$)")
_MAPPING_PART = re.compile(rf"\s*({_QUOTED}|[^\s,:\[\]{{}}]+)\s*:\s*({_FLOW_SCALAR})(?:,|$)")
_BLOCK_PART = re.compile(rf"( *)(?:-|({_QUOTED}|[^\s:\-\"'][^:]*):)(?: +(.*))?")


def names_in_csv(text: str, suffix: str = ".csv") -> Names:
    """The names in rows, or index to name. ValueError, with the reason, if they are not clear."""
    first = text.split("\n", 1)[0]
    separator = "\t" if suffix == ".tsv" else ";" if ";" in first and "," not in first else ","
    try:
        rows = [
            row for row in csv.reader(StringIO(text, newline=""), delimiter=separator) if any(row)
        ]
    except csv.Error as error:
        raise ValueError(f"it is not valid CSV ({error})") from error
    rows = [[cell.strip() for cell in row] for row in rows]
    if len({len(row) for row in rows}) != 1:
        raise ValueError(
            f"its rows have {_column_counts(rows)} columns; quote names that contain {separator!r}"
        )
    headings = [re.sub(r"[\s_-]+", "", cell.lower()) for cell in rows[0]]
    has_heading = any(cell in NAME_HEADINGS for cell in headings) and not any(
        map(_is_index, rows[0])
    )
    columns = [list(column) for column in zip(*rows[has_heading:], strict=True)]
    if not columns:
        raise ValueError("it has a heading but no rows")
    return _named_columns(headings if has_heading else [""] * len(columns), columns)


def _column_counts(rows: Sequence[Sequence[str]]) -> str:
    return " or ".join(str(count) for count in sorted({len(row) for row in rows}))


def _named_columns(headings: Sequence[str], columns: Sequence[list[str]]) -> Names:
    """The column of names, keyed by the column of indices if there is one."""
    if len(columns) == 1:
        return columns[0]
    numbers = [i for i, column in enumerate(columns) if all(map(_is_index, column))]
    words = [i for i in range(len(columns)) if i not in numbers]
    by_heading = [headings.index(name) for name in NAME_HEADINGS if name in headings]
    name = next((i for i in by_heading if i in words), None)
    if name is None:
        name = words[0] if len(words) == 1 else by_heading[0] if by_heading else None
    if name is None:
        raise ValueError(
            "it is unclear which column holds the names; begin with the heading index,name"
        )
    others = [i for i in numbers if i != name]
    index = next((i for i in others if headings[i] in INDEX_HEADINGS), None)
    if index is None:
        return columns[name]
    if len(set(columns[index])) < len(columns[index]):
        raise ValueError("it has an index twice")
    return dict(zip(columns[index], columns[name], strict=True))


def _is_index(cell: str) -> bool:
    return re.fullmatch(r"\d{1,6}", cell) is not None


def names_in_yaml(text: str, keys: Iterable[str]) -> Names:
    """The list or mapping of names under one of the keys, or else in the entire text.

    Block and flow collections of one level are read, plain and quoted. ValueError for anything else.
    """
    lines = [line.rstrip() for line in re.split(r"\r\n|\r|\n", text)]
    lines = [line for line in lines if line not in ("---", "...") and not _is_blank(line)]
    for key in keys:
        for number, line in enumerate(lines):
            match = re.fullmatch(rf"""["']?{re.escape(key)}["']?\s*:(?:\s+(.*))?""", line)
            first = _strip_comment(match[1] or "") if match else "no collection"
            if first[:1] in ("", "[", "{"):
                return _parse_collection(first, lines[number + 1 :])
    return _parse_collection("", lines)


def _is_blank(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _parse_collection(first: str, lines: Sequence[str]) -> Names:
    if not first and lines and lines[0].lstrip()[0] in "[{":
        first, lines = lines[0].strip(), lines[1:]
    if first[:1] in ("[", "{"):
        return _parse_flow(first, lines)
    return _parse_block(lines)


def _parse_flow(first: str, lines: Sequence[str]) -> Names:
    """[cat, dog] or {0: cat, 1: dog}, perhaps over several lines."""
    closing, text = {"[": "]", "{": "}"}[first[0]], first
    for line in lines:
        if text.endswith(closing):
            break
        text += " " + _strip_comment(line.strip())
    if not text.endswith(closing):
        raise ValueError(f"its YAML list of names is not closed by {closing}")
    inner = text[1:-1].strip().removesuffix(",")
    if text[0] == "[":
        return [_parse_scalar(match[1]) for match in _match_all(_LIST_PART, inner)]
    return _to_unique_dict(
        (_parse_scalar(match[1]), _parse_scalar(match[2]))
        for match in _match_all(_MAPPING_PART, inner)
    )


def _match_all(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    position = 0
    while position < len(text):
        match = pattern.match(text, position)
        if match is None:
            raise ValueError(f"in its YAML, {_abbreviate(text[position:])} is not a name in a list")
        yield match
        position = match.end()


def _parse_block(lines: Sequence[str]) -> Names:
    """Lines `- cat`, or `0: cat`, of one indentation, up to the first that is indented less."""
    names: list[tuple[str | None, str]] = []
    indent: str | None = None
    for line in lines:
        match = _BLOCK_PART.fullmatch(line)
        if names and _ends_block(line, names[0][0], indent or ""):
            break
        if match is None or match[3] is None or indent not in (None, match[1]):
            raise ValueError(f"in its YAML, {_abbreviate(line)} is not a name in a list")
        indent = match[1]
        names.append(
            (match[2] and _parse_scalar(match[2]), _parse_scalar(_strip_comment(match[3])))
        )
    keys = [key for key, _ in names if key is not None]
    if not keys:
        return [name for _, name in names]
    return _to_unique_dict((key, name) for key, name in names if key is not None)


def _ends_block(line: str, first: str | None, indent: str) -> bool:
    """Whether an unindented line is the next key of the file, after an indented block or an unindented list."""
    return not line.startswith(" ") and (indent != "" or (first is None and line[0] != "-"))


def _to_unique_dict(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    pair_list = list(pairs)
    if len(dict(pair_list)) < len(pair_list):
        raise ValueError("its YAML has a key twice")
    return dict(pair_list)


def _strip_comment(text: str) -> str:
    """The text without its comment, which begins with # after a blank and outside quotes."""
    quote = previous = ""
    for position, character in enumerate(text):
        if quote:
            closes = character == quote and (quote == "'" or previous != "\\")
            quote = "" if closes else quote
        elif character in "\"'" and previous in ("", " ", ",", "[", "{", ":"):
            quote = character
        elif character == "#" and previous in ("", " ", "\t"):
            return text[:position].rstrip()
        # two of them are one, escaped
        previous = "" if previous == character == "\\" else character
    return text


def _parse_scalar(text: str) -> str:
    """A plain or quoted scalar as text: `no`, `on`, and `1.0` are names as they are written."""
    text = text.strip()
    if text[:1] == "'":
        return text[1:-1].replace("''", "'")
    if text[:1] == '"':
        return str(json.loads(text))  # its ValueError says what is wrong with an escape
    if not text or text[0] in "&*!|>%@`[{" or ": " in text or " #" in text:
        raise ValueError(f"in its YAML, {_abbreviate(text)} is not a plain name; quote it")
    return text


def _abbreviate(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
