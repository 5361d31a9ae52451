"""Tables that fit a terminal: columns that others repeat are left out, and names are cut in the middle."""

from __future__ import annotations

from collections.abc import Sequence

from onnxcam.cli.visible_text import width

GAP = "  "
ENOUGH = 40  # columns for names; other columns are left out for them
LEAST = 12  # columns for names, even if lines wrap
CUT = "…"


def fit(
    table: Sequence[Sequence[str]], names: int, optional: Sequence[int], columns: int
) -> tuple[list[list[str]], list[int]]:
    """A table that fits this many columns of a terminal, if it can, and the indices of the columns left out.

    The optional columns are left out, the first ones first, until the names (the column `names`) fit or have
    ENOUGH columns. Then the names are cut.
    """
    widths = [max(map(width, column)) for column in zip(*table, strict=True)]
    needed = min(widths[names], ENOUGH)
    omitted: list[int] = []
    for column in optional:
        if _room(widths, names, omitted, columns) >= needed:
            break
        omitted.append(column)
    lines = [list(line) for line in table]
    shortened = shorten([row[names] for row in table[1:]], _room(widths, names, omitted, columns))
    for line, name in zip(lines[1:], shortened, strict=True):
        line[names] = name
    return [[cell for i, cell in enumerate(line) if i not in omitted] for line in lines], omitted


def _room(widths: Sequence[int], names: int, omitted: Sequence[int], columns: int) -> int:
    """How many columns are left for the names."""
    others = [size for i, size in enumerate(widths) if i not in (names, *omitted)]
    return columns - sum(others) - len(GAP) * len(others)


def shorten(names: Sequence[str], columns: int) -> list[str]:
    """Names cut in the middle to this many columns, or to LEAST, with more of the end than of the beginning.
    If different names become equal by that, they are cut in another place, or show where they differ.
    """
    size = max(columns, LEAST)
    if all(width(name) <= size for name in names):
        return list(names)
    starts = sorted(range(size), key=lambda start: abs(start - size // 3))
    cuts = [[_cut(name, size, start) for name in names] for start in starts]
    with_both_ends = max(cuts[: size // 2], key=_count_distinct)
    with_differences = _show_differences(names, with_both_ends, size)
    return max((with_both_ends, with_differences, *cuts), key=_count_distinct)


def _count_distinct(names: Sequence[str]) -> int:
    return len(set(names))


def _cut(name: str, size: int, start: int) -> str:
    if width(name) <= size:
        return name
    return _beginning(name, start) + CUT + _end(name, size - start - len(CUT))


def _show_differences(names: Sequence[str], cuts: Sequence[str], size: int) -> list[str]:
    """The cuts, but those of several names with the place where each differs from the most similar one."""
    groups: dict[str, set[str]] = {}
    for name, cut in zip(names, cuts, strict=True):
        groups.setdefault(cut, set()).add(name)
    shown: dict[str, str] = {}
    for cut, group in groups.items():
        ordered = sorted(group)
        for before, name, after in zip(["", *ordered], ordered, [*ordered[1:], ""], strict=False):
            place = max(_common_length(before, name), _common_length(name, after))
            shown[name] = _show_place(name, place, size) if len(group) > 1 else cut
    return [shown[name] for name in names]


def _common_length(first: str, second: str) -> int:
    """How many characters two texts begin with in common."""
    pairs = zip(first, second, strict=False)
    differing = (i for i, (one, other) in enumerate(pairs) if one != other)
    return next(differing, min(len(first), len(second)))


def _show_place(name: str, place: int, size: int) -> str:
    """The beginning, the characters around a place, and the end."""
    third = (size - 2 * len(CUT)) // 3
    middle = _beginning(name[max(place - third // 2, 0) :], third)
    end = _end(name, size - 2 * len(CUT) - 2 * third)
    return CUT.join((_beginning(name, third), middle, end))


def _beginning(text: str, size: int) -> str:
    """As much of a text as fits into this many columns."""
    while (excess := width(text) - size) > 0:
        text = text[: -max(excess // 2, 1)]  # a character has at most two columns
    return text


def _end(text: str, size: int) -> str:
    """The same of its end."""
    while (excess := width(text) - size) > 0:
        text = text[max(excess // 2, 1) :]
    return text
