"""Hostile values: integers, floats, text, and bytes."""

from __future__ import annotations

from random import Random
from typing import Any

LARGE = (1 << 31, -(1 << 31), (1 << 31) - 1, (1 << 63) - 1, -(1 << 63), 1 << 40, 1 << 20)
INTEGERS = (0, -1, 1, 2, 3, -2, -3, 7, 64, 99, 1000, *LARGE)
FLOATS = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, 3.4e38, -3.4e38, float("nan"), float("inf")),
    *(float("-inf"),),
)
TEXTS = (
    *(b"", b"VALID", b"SAME_UPPER", b"NOTSET", b"cubic", b"linear", b"asymmetric", b"constant"),
    *(b"bij,bjk->bik", b"...->...", b"->", b"ij->ji,", b"\xff\xfe\x00", b"\x1b[31mred"),
    *(b"a\nb", b"a" * 5000, b"(a+)+$", b"*", "\u202eabc".encode(), b"none"),
)
LENGTHS = (0, 1, 2, 3, 4, 5, 6, 8, 1000)


def integer(draw: Random) -> int:
    """Any integer of 64 bits, mostly an edge case."""
    if draw.random() < 0.8:
        return draw.choice(INTEGERS)
    return draw.randrange(-(1 << 63), 1 << 63) >> draw.randrange(64)


def number(draw: Random) -> float:
    """Any float."""
    return draw.choice(FLOATS)


def text(draw: Random) -> bytes:
    """Any text, or bytes that are not text."""
    return draw.choice(TEXTS)


def several_values(draw: Random, one: Any) -> list[Any]:
    """Zero, a few, or many values that `one` draws, all the same or drawn one by one."""
    count = draw.choice(LENGTHS)
    if draw.random() < 0.5:
        return [one(draw)] * count
    return [one(draw) for _ in range(count)]


def mutate_bytes(content: bytes, draw: Random) -> bytes:
    """A file with some bytes flipped, removed, doubled, inserted, or cut off."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8, 40))):
        _mutate(changed, draw)
    return bytes(changed)


def _mutate(content: bytearray, draw: Random) -> None:
    start = (
        draw.randrange(len(content) + 1)
        if draw.random() < 0.7
        else min(draw.randrange(200), len(content))
    )
    length = draw.choice((1, 1, 2, 4, 16, 100))
    match draw.randrange(7):
        case 0:
            del content[start : start + length]
        case 1:
            content[start:start] = content[start : start + length]
        case 2:
            content[start:start] = draw.randbytes(length)
        case 3:
            del content[start:]
        case 4:
            content[start : start + length] = draw.choice((b"\0", b"\xff", b"\x80")) * length
        case 5:
            content[start : start + 10] = b"\xff" * 9 + b"\x01"
        case _ if content:
            content[start % len(content)] ^= 1 << draw.randrange(8)
