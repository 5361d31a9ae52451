"""Text on and below images, in the font that comes with Pillow."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from typing import cast

from PIL import Image, ImageDraw, ImageFont

INK = (24, 24, 24)
PAPER = (255, 255, 255)
_SMALLEST, _LARGEST = 10, 96  # pixels of font size
_MOST_LINES = 3
# The font has ASCII and little more; letters without an ASCII decomposition are replaced.
_REPLACED = str.maketrans({"×": "x", "–": "-", "—": "-", "’": "'", "ß": "ss", "ø": "o", "æ": "ae"})


def strip(text: str, width: int, size: int, *, centered: bool = False) -> Image.Image:
    """`text` on white, `width` pixels wide, broken into at most three lines and then cut off.

    The font is `size` pixels, within 10 to 96.
    """
    font = _font(size)
    pad = round(font.size / 2)
    lines = _lines(text, max(1, width - 2 * pad), font)
    step = round(font.size * 1.25)
    paper = Image.new("RGB", (width, step * len(lines) + pad), PAPER)
    draw = ImageDraw.Draw(paper)
    for number, line in enumerate(lines):
        middle = pad // 2 + number * step + step // 2
        left = (width - font.getlength(line)) / 2 if centered else pad
        draw.text((left, middle), line, INK, font, anchor="lm")
    return paper


def stamp(image: Image.Image, text: str) -> Image.Image:
    """A copy of `image` with `text` in its middle, on a dark plate; as large as fits the width."""
    font = _font(image.width // 12)
    pad = font.size / 2
    center = (image.width / 2, image.height / 2)
    copy = image.copy()
    draw = ImageDraw.Draw(copy)
    left, top, right, bottom = draw.textbbox(center, _shown(text), font, anchor="mm")
    draw.rounded_rectangle((left - pad, top - pad, right + pad, bottom + pad), pad, fill=INK)
    draw.text(center, _shown(text), PAPER, font, anchor="mm")
    return copy


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(min(max(size, _SMALLEST), _LARGEST))
    return cast(ImageFont.FreeTypeFont, font)  # with a size it is never the bitmap font


def _shown(text: str) -> str:
    """`text` in the letters of the font: accents are dropped, other letters become "?"."""
    plain = unicodedata.normalize("NFKD", text.translate(_REPLACED))
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return re.sub(r"[^ -~·]", "?", " ".join(letters.split()))


def _lines(text: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    lines = [""]
    for word in _shown(text[: _MOST_LINES * width]).split():  # no letter is less than a pixel wide
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    shown = lines[:_MOST_LINES]
    if len(lines) > _MOST_LINES:
        shown[-1] += "..."
    return [_cut(line, width, font) for line in shown]


def _cut(line: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    if font.getlength(line) <= width:
        return line
    stem = line.removesuffix("...")
    fitting = bisect_left(
        range(len(stem)), True, key=lambda last: font.getlength(f"{stem[: last + 1]}...") > width
    )
    return f"{stem[:fitting]}..."
