"""A heat map drawn over its picture, and labelled sheets of pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from onnxcam.arrays import Array, Floats
from onnxcam.errors import SettingError
from onnxcam.image import text as lettering
from onnxcam.image.colormap import COLORMAPS, DEFAULT
from onnxcam.image.preprocess import Box
from onnxcam.image.read import read

LONGEST_SIDE = 2048  # pixels: a heat map has no detail that a larger picture would show
_UNSEEN = 0.35  # brightness of the part of the picture that the model was not shown
_GREY = 0.8  # how far the colours of the photograph give way to those of the map, per opacity
_SHADE = 0.5  # how far the photograph darkens where there is no evidence, per opacity
_GAP = 8  # pixels between the pictures of a sheet


def overlay(
    picture: Image.Image,
    saliency: Floats,
    box: Box,
    *,
    colormap: str = DEFAULT,
    opacity: float = 0.5,
    side_by_side: bool = False,
    caption: str | None = None,
) -> Image.Image:
    """`picture` with the heat map over the part that the model saw; the rest is dimmed and grey.

    The map is divided by its maximum; negative values count as 0. The tint is strongest where the
    evidence is, and the photograph turns darker and greyer where it is not. A map without a value
    above 0 gives the grey picture with the words "no evidence".

    Args:
        picture: The original, as `read` gives it; a long side above 2048 pixels is brought down to that.
        saliency: (H, W), the raw map at the size of the model's input.
        box: Left, top, right and bottom of what the map covers, in pixels of `picture`.
        colormap: A name of `COLORMAPS`.
        opacity: The strongest tint, 0 (the photograph alone) to 1 (at the maximum, colour alone).
        side_by_side: Put the original to the left.
        caption: A line or more of text below.

    Returns:
        A new picture of mode "RGB".

    Raises:
        SettingError: `opacity`, `box` or the shape or values of `saliency` are out of range.
        UnknownNameError: There is no such colour map.
        ImageError: The picture cannot be decoded.
    """
    picture = picture if picture.mode == "RGB" else read(picture)
    _check(picture, saliency, box, opacity)
    colours = COLORMAPS[colormap]
    photo, place = _fitted(picture, box)
    value = _value(saliency, (place[2] - place[0], place[3] - place[1]))
    if value is None:
        drawn = lettering.stamped(ImageOps.grayscale(photo).convert("RGB"), "no evidence")
    else:
        drawn = Image.fromarray(_unseen(np.asarray(photo)))
        seen = _blend(np.asarray(photo.crop(place)), value, colours(value), opacity)
        drawn.paste(Image.fromarray(seen), place)
    panels = [photo, drawn] if side_by_side else [drawn]
    return _captioned(_beside(panels), caption)


def grid(
    rows: Sequence[Sequence[Image.Image]],
    *,
    column_titles: Sequence[str],
    row_titles: Sequence[str] | None = None,
    cell: int = 224,
) -> Image.Image:
    """A sheet of pictures on white, with a title over each column and to the left of each row.

    Each picture is scaled to fit a square of `cell` pixels, 32 to 2048; rows may be shorter than
    the list of columns.

    Raises:
        SettingError: No pictures, more pictures in a row than titles, another number of row titles
            than rows, or `cell` out of range.
    """
    _check_grid(rows, column_titles, row_titles, cell)
    size = cell // 14
    headings = [lettering.strip(title, cell, size, centred=True) for title in column_titles]
    lines = [[_thumbnail(each, cell) for each in row] for row in rows]
    if row_titles is not None:
        sides = [lettering.strip(title, cell * 5 // 8, size) for title in row_titles]
        lines = [[side, *line] for side, line in zip(sides, lines, strict=True)]
        headings = [Image.new("RGB", (sides[0].width, 1), lettering.PAPER), *headings]
    return _stacked([headings, *lines], [heading.width for heading in headings])


def _check(picture: Image.Image, saliency: Array, box: Box, opacity: float) -> None:
    if not 0 <= opacity <= 1:
        raise SettingError(f"opacity {opacity}: expected 0 to 1")
    if saliency.ndim != 2 or not saliency.size:
        raise SettingError(f"a map of shape {saliency.shape}: expected (height, width), one map")
    if not np.isfinite(saliency).all():
        raise SettingError("the map holds values that are not finite; expected the raw, finite map")
    left, top, right, bottom = box
    if not (0 <= left < right <= picture.width and 0 <= top < bottom <= picture.height):
        raise SettingError(
            f"box {box}: expected left < right and top < bottom within the picture's "
            f"{picture.width} x {picture.height} pixels"
        )


def _fitted(picture: Image.Image, box: Box) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """The picture at the size it is drawn, and the whole pixels of it that the box covers."""
    shrink = min(1.0, LONGEST_SIDE / max(picture.size))
    size = [max(1, round(side * shrink)) for side in picture.size]
    photo = picture.resize(size, reducing_gap=3) if shrink < 1 else picture
    across, down = photo.width / picture.width, photo.height / picture.height
    left, right = _whole(box[0] * across, box[2] * across, photo.width)
    top, bottom = _whole(box[1] * down, box[3] * down, photo.height)
    return photo, (left, top, right, bottom)


def _whole(start: float, end: float, side: int) -> tuple[int, int]:
    """The span in whole pixels, of at least one."""
    first = min(round(start), side - 1)
    return first, max(round(end), first + 1)


def _value(saliency: Floats, size: tuple[int, int]) -> NDArray[np.float32] | None:
    """The map in [0, 1] at `size` (width, height); None where nothing is above 0."""
    positive = np.maximum(saliency.astype(np.float64), 0)
    peak = positive.max()
    if peak == 0:
        return None
    image = Image.fromarray((positive / peak).astype(np.float32))
    return np.clip(np.asarray(image.resize(size, Image.Resampling.BICUBIC)), 0, 1)


def _blend(
    photo: NDArray[np.uint8], value: Floats, colours: NDArray[np.uint8], opacity: float
) -> NDArray[np.uint8]:
    """The colours over the photograph, more of them where the value is high."""
    shown = value[..., np.newaxis]
    # The square root, because weak evidence would otherwise be too faint to be seen at all.
    tint = opacity * np.sqrt(shown)
    shade = 1 - _SHADE * opacity * (1 - shown)
    muted = _mixed(photo, _luma(photo), _GREY * opacity) * shade
    return _bytes(_mixed(muted, colours, tint))


def _mixed(
    under: Floats | NDArray[np.uint8], over: Floats | NDArray[np.uint8], share: Floats | float
) -> Floats:
    part = np.asarray(share, np.float32)
    return under * (1 - part) + over * part


def _luma(photo: NDArray[np.uint8]) -> Floats:
    """(H, W, 1): the grey of each pixel (ITU-R BT.601), as Pillow has it."""
    luma = np.array([0.299, 0.587, 0.114], np.float32)
    return np.sum(photo * luma, axis=-1, keepdims=True, dtype=np.float32)


def _unseen(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return _bytes(np.repeat(_luma(photo) * _UNSEEN, 3, axis=-1))


def _bytes(values: Floats) -> NDArray[np.uint8]:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def _beside(panels: Sequence[Image.Image]) -> Image.Image:
    return _stacked([panels], [panel.width for panel in panels])


def _captioned(picture: Image.Image, caption: str | None) -> Image.Image:
    if caption is None:
        return picture
    below = lettering.strip(caption, picture.width, picture.width // 36)
    return _pasted([(picture, (0, 0)), (below, (0, picture.height))])


def _check_grid(
    rows: Sequence[Sequence[Image.Image]],
    column_titles: Sequence[str],
    row_titles: Sequence[str] | None,
    cell: int,
) -> None:
    if not any(map(len, rows)):
        raise SettingError("a grid of no pictures; give at least one row with one picture")
    if max(map(len, rows)) > len(column_titles):
        raise SettingError(
            f"{max(map(len, rows))} pictures in a row and {len(column_titles)} column titles; "
            "expected a title for each column"
        )
    if row_titles is not None and len(row_titles) != len(rows):
        raise SettingError(f"{len(row_titles)} row titles for {len(rows)} rows; expected as many")
    if not 32 <= cell <= 2048:
        raise SettingError(f"cell {cell}: expected 32 to 2048 pixels")


def _thumbnail(picture: Image.Image, cell: int) -> Image.Image:
    scale = cell / max(picture.size)
    size = [max(1, round(side * scale)) for side in picture.size]
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=3)


def _stacked(lines: Sequence[Sequence[Image.Image]], widths: Sequence[int]) -> Image.Image:
    """The pictures in rows and columns, each in the middle of its place."""
    lefts = np.cumsum([0, *(width + _GAP for width in widths)])
    heights = [max((each.height for each in line), default=1) for line in lines]
    tops = np.cumsum([0, *(height + _GAP for height in heights)])
    placed = [
        (each, (int(left) + (width - each.width) // 2, int(top) + (height - each.height) // 2))
        for line, top, height in zip(lines, tops, heights, strict=False)
        for each, left, width in zip(line, lefts, widths, strict=False)
    ]
    return _pasted(placed, (int(lefts[-1]) - _GAP, int(tops[-1]) - _GAP))


def _pasted(
    placed: Sequence[tuple[Image.Image, tuple[int, int]]], size: tuple[int, int] | None = None
) -> Image.Image:
    if size is None:
        size = (
            max(left + each.width for each, (left, _) in placed),
            max(top + each.height for each, (_, top) in placed),
        )
    sheet = Image.new("RGB", size, lettering.PAPER)
    for each, corner in placed:
        sheet.paste(each, corner)
    return sheet
