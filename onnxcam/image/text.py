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
_MAX_LINES = 3
# The font has ASCII and little more; letters without an ASCII decomposition are replaced.
_REPLACEMENTS = str.maketrans(
    {"×": "x", "–": "-", "—": "-", "’": "'", "ß": "ss", "ø": "o", "æ": "ae"}
)


def render_text(
    text: str,
    width: int,
    size: int,
    *,
    centered: bool = False,
    ink: tuple[int, int, int] = INK,
) -> Image.Image:
    """`text` on white, `width` pixels wide, broken into at most three lines and then cut off.

    The font is `size` pixels, within 10 to 96.
    """
    font = _font(size)
    pad = round(font.size / 2)
    lines = _break_lines(text, max(1, width - 2 * pad), font)
    line_height = round(font.size * 1.25)
    strip_image = Image.new("RGB", (width, line_height * len(lines) + pad), PAPER)
    draw = ImageDraw.Draw(strip_image)
    for number, line in enumerate(lines):
        middle = pad // 2 + number * line_height + line_height // 2
        left = (width - font.getlength(line)) / 2 if centered else pad
        draw.text((left, middle), line, ink, font, anchor="lm")
    return strip_image


def stamp_text(image: Image.Image, text: str) -> Image.Image:
    """A copy of `image` with `text` in its middle, on a dark plate, as large as the width allows."""
    font = _font(image.width // 12)
    pad = font.size / 2
    center = (image.width / 2, image.height / 2)
    copy = image.copy()
    draw = ImageDraw.Draw(copy)
    left, top, right, bottom = draw.textbbox(center, _to_font_letters(text), font, anchor="mm")
    draw.rounded_rectangle((left - pad, top - pad, right + pad, bottom + pad), pad, fill=INK)
    draw.text(center, _to_font_letters(text), PAPER, font, anchor="mm")
    return copy


def draw_label(image: Image.Image, text: str, corner: tuple[int, int], size: int) -> None:
    """Draw `text` on a dark plate, in place, above a corner (left, top), or below it where there is no room."""
    font = _font(size)
    pad, line = font.size / 4, font.size * 1.25
    shown = _truncate(_to_font_letters(text), max(1, round(image.width - 2 * pad)), font)
    width = font.getlength(shown) + 2 * pad
    left = max(0.0, min(float(corner[0]), image.width - width))
    top = corner[1] - line if corner[1] >= line else float(corner[1])
    draw = ImageDraw.Draw(image)
    draw.rectangle((left, top, left + width, top + line), fill=INK)
    draw.text((left + pad, top + line / 2), shown, PAPER, font, anchor="lm")


def write_text(
    image: Image.Image,
    text: str,
    position: tuple[float, float],
    size: int,
    *,
    anchor: str = "lm",
    ink: tuple[int, int, int] = INK,
) -> None:
    """Write a line in place; `anchor` is Pillow's: "lm" begins at the position, "rm" ends there, "mm" has it in
    the middle.
    """
    ImageDraw.Draw(image).text(position, _to_font_letters(text), ink, _font(size), anchor=anchor)


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(min(max(size, _SMALLEST), _LARGEST))
    return cast(ImageFont.FreeTypeFont, font)  # with a size it is never the bitmap font


def _to_font_letters(text: str) -> str:
    """`text` in the letters of the font: accents are dropped, other letters become "?"."""
    plain = unicodedata.normalize("NFKD", text.translate(_REPLACEMENTS))
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return re.sub(r"[^ -~·]", "?", " ".join(letters.split()))


def _break_lines(text: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    lines = [""]
    text = text[: _MAX_LINES * width]  # no letter is less than a pixel wide
    for word in _to_font_letters(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    visible_lines = lines[:_MAX_LINES]
    if len(lines) > _MAX_LINES:
        visible_lines[-1] += "..."
    return [_truncate(line, width, font) for line in visible_lines]


def _truncate(line: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    if font.getlength(line) <= width:
        return line
    stem = line.removesuffix("...")
    fitting_length = bisect_left(
        range(len(stem)), True, key=lambda last: font.getlength(f"{stem[: last + 1]}...") > width
    )
    return f"{stem[:fitting_length]}..."
