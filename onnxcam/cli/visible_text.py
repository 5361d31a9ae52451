"""Text from models and files, made safe to print: what a terminal would obey or hide is escaped."""

from __future__ import annotations

import re
from unicodedata import category, east_asian_width

# Controls (C0, C1), formats (bidi overrides, zero width), line and paragraph separators, lone surrogates
ESCAPED = {"Cc", "Cf", "Zl", "Zp", "Cs"}
# Of other categories, but drawn as nothing (Unicode's Default_Ignorable_Code_Point)
BLANK = set("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0")
JOINER = "\u200d"
JOINED = {"So", "Sk", "Mn"}  # emoji, their skin tones, and the selector that makes a sign one


def visible(text: str) -> str:
    """One line of text: `\\x1b`, `\\n`, `\\u202e` for control characters; é, 漢字 and emoji stay.

    The zero-width joiner stays within emoji that consist of several (👩‍🚀).
    """
    if text.isascii() and text.isprintable():
        return text
    around = zip(" " + text, text, text[1:] + " ", strict=False)
    return "".join(_escape(before, character, after) for before, character, after in around)


def visible_lines(text: str) -> str:
    """Text of several lines: its newlines and tabs stay."""
    return re.sub(r"[^\n\t]+", lambda part: visible(part[0]), text)


def width(text: str) -> int:
    """How many terminal columns the text occupies: two for East Asian wide characters and emoji."""
    return len(text) if text.isascii() else sum(map(_column_count, text))


def _escape(before: str, character: str, after: str) -> str:
    if character == JOINER and category(before) in JOINED and category(after) == "So":
        return character
    is_hidden = category(character) in ESCAPED or character in BLANK
    return character.encode("unicode_escape").decode() if is_hidden else character


def _column_count(character: str) -> int:
    if character == JOINER or category(character) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1
