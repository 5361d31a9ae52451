"""Heat maps drawn over their images, and labeled sheets of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from onnxcam.arrays import Array, Floats
from onnxcam.errors import SettingError
from onnxcam.image.blend import LUMA, blend, check_drawing
from onnxcam.image.colormap import choose_colormap
from onnxcam.image.geometry import Box
from onnxcam.image.marks import draw_box, draw_outline
from onnxcam.image.read import read
from onnxcam.image.text import PAPER, render_text, stamp_text

LONGEST_SIDE = 1024  # pixels: a heat map has no detail that a larger image would show
LARGEST_SIDE = 8192  # pixels that can be asked for
_UNSEEN = 0.35  # brightness of the part of the image that the model was not shown
CELL = 224  # pixels of an image on a sheet
_REDUCE = Image.Resampling.HAMMING
_GAP = 8  # pixels between the images of a sheet


def overlay(
    image: Image.Image,
    saliency: Floats,
    box: Box,
    *,
    signed: bool = False,
    colormap: str | None = None,
    opacity: float = 0.5,
    outliers: float = 0.0,
    longest_side: int = LONGEST_SIDE,
    side_by_side: bool = False,
    caption: str | None = None,
    frame: Box | None = None,
    outline: NDArray[np.bool_] | None = None,
    label: str | None = None,
) -> Image.Image:
    """`image` with the heat map over the part that the model saw; the rest is dimmed and gray.

    The map is divided by its maximum; negative values count as 0. A `signed` map is divided by its
    largest absolute value; its negative values are evidence against the target and have colors of
    their own. The tint is strongest where the evidence is, and the photograph turns darker and
    grayer where it is not. A map without evidence results in the gray image with the words "no
    evidence".

    Args:
        image: The original, as `read` gives it.
        saliency: (H, W), the raw map at the size of the model's input.
        box: Left, top, right and bottom of what the map covers, in pixels of `image`; it may extend beyond
            the image, and that part of the map is not drawn.
        signed: Whether negative values are evidence against the target.
        colormap: A name of `COLORMAPS`, for a signed map that of a diverging one; the default is
            "ember", or "polar" for a signed map.
        opacity: The strongest tint, 0 (the photograph alone) to 1 (at the maximum, color alone).
        outliers: The fraction of the cells with evidence, the largest of all, that are drawn like
            the next smaller one: the map is divided by that instead. 0 to 1, without 1. In a map of
            single pixels, a few are so large that none of the others could be seen.
        longest_side: Pixels, 1 to 8192; a larger image is reduced to this size.
        side_by_side: Put the original to the left.
        caption: A line or more of text below.
        frame: A box that is drawn, in pixels of `image`; `label` is written at it.
        outline: (rows, columns), the cells of `box` whose outline is drawn.

    Returns:
        A new image of mode "RGB".

    Raises:
        SettingError: `opacity`, `outliers`, `longest_side`, `box` or the shape or values of
            `saliency` are out of range, or the color map does not suit a signed map, or suits only
            signed maps.
        UnknownNameError: There is no such color map.
        ImageError: The image cannot be decoded.
    """
    image = image if image.mode == "RGB" else read(image)
    _check_numbers(opacity, outliers, longest_side)
    _check(image, saliency, box)
    colors = choose_colormap(colormap, signed=signed)
    photo, covered_box = _fit_to_sheet(image, box, longest_side)
    size = (covered_box[2] - covered_box[0], covered_box[3] - covered_box[1])
    shown_cells = _cells_on(image.size, box, saliency.shape)
    level = _normalize_map(saliency, shown_cells, size, signed, outliers)
    if level is None:
        overlaid = stamp_text(ImageOps.grayscale(photo).convert("RGB"), "no evidence")
    else:
        overlaid = _dim(photo)
        blended = blend(photo.crop(covered_box), level, colors, opacity)
        overlaid.paste(blended, covered_box)
    if outline is not None:
        cells = _cells_on(image.size, box, outline.shape)
        draw_outline(overlaid, outline, covered_box, cells)
    if frame is not None:
        across, down = photo.width / image.width, photo.height / image.height
        left, top, right, bottom = frame
        draw_box(overlaid, (left * across, top * down, right * across, bottom * down), label)
    panels = [photo, overlaid] if side_by_side else [overlaid]
    return _add_caption(_place_side_by_side(panels), caption)


def grid(
    rows: Sequence[Sequence[Image.Image]],
    *,
    column_titles: Sequence[str],
    row_titles: Sequence[str] | None = None,
    cell: int = CELL,
) -> Image.Image:
    """A sheet of images on white, with a title over each column and to the left of each row.

    Each image is scaled to fit a square of `cell` pixels, 32 to 2048; rows may be shorter than
    the list of columns.

    Raises:
        SettingError: No images, more images in a row than titles, another number of row titles
            than rows, or `cell` out of range.
    """
    _check_grid(rows, column_titles, row_titles, cell)
    size = cell // 14
    headings = [render_text(title, cell, size, centered=True) for title in column_titles]
    image_rows = [[thumbnail(image, cell) for image in row] for row in rows]
    if row_titles is not None:
        side_titles = [render_text(title, cell * 5 // 8, size) for title in row_titles]
        image_rows = [[side, *line] for side, line in zip(side_titles, image_rows, strict=True)]
        headings = [Image.new("RGB", (side_titles[0].width, 1), PAPER), *headings]
    return _stack([headings, *image_rows], [heading.width for heading in headings])


def sheet(
    images: Sequence[Image.Image], titles: Sequence[str], *, columns: int = 4, cell: int = CELL
) -> Image.Image:
    """A sheet of images in rows of at most `columns`, with a title over each image."""
    columns = min(columns, len(images))
    blank = [""] * (-len(titles) % columns)  # of the last row, so that all rows are of one width
    headings = [*titles, *blank]
    bands = [
        grid([images[i : i + columns]], column_titles=headings[i : i + columns], cell=cell)
        for i in range(0, len(images), columns)
    ]
    return _stack([[band] for band in bands], [bands[0].width])


def _check_numbers(opacity: float, outliers: float, longest_side: int) -> None:
    check_drawing(opacity, outliers)
    if not 1 <= longest_side <= LARGEST_SIDE:
        raise SettingError(f"longest_side {longest_side}: expected 1 to {LARGEST_SIDE} pixels")


def _check(image: Image.Image, saliency: Array, box: Box) -> None:
    if saliency.ndim != 2 or not saliency.size:
        raise SettingError(f"a map of shape {saliency.shape}: expected one map (height, width)")
    if not np.isfinite(saliency).all():
        raise SettingError("the map holds values that are not finite; expected the raw, finite map")
    left, top, right, bottom = box
    overlaps = max(left, 0) < min(right, image.width) and max(top, 0) < min(bottom, image.height)
    if not (overlaps and np.isfinite(box).all()):
        raise SettingError(
            f"box {box}: expected left < right and top < bottom, and that it shows a part of the image's "
            f"{image.width} x {image.height} pixels"
        )


def _fit_to_sheet(
    image: Image.Image, box: Box, longest_side: int
) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """The image at the size it is drawn, and the whole pixels of it that the box covers."""
    shrink = min(1.0, longest_side / max(image.size))
    size = [max(1, round(side * shrink)) for side in image.size]
    # bicubic without the gap takes three times as long for 12 megapixels, and looks the same
    photo = image.resize(size, _REDUCE, reducing_gap=1.5) if shrink < 1 else image
    across, down = photo.width / image.width, photo.height / image.height
    left, right = _whole_pixels(box[0] * across, box[2] * across, photo.width)
    top, bottom = _whole_pixels(box[1] * down, box[3] * down, photo.height)
    return photo, (left, top, right, bottom)


def _whole_pixels(start: float, end: float, side: int) -> tuple[int, int]:
    """The span in whole pixels of the side, of at least one."""
    first = min(max(round(start), 0), side - 1)
    return first, max(min(round(end), side), first + 1)


def _cells_on(size: tuple[int, int], box: Box, shape: tuple[int, ...]) -> Box:
    """The part of a map of this shape that lies on an image of this size (width, height), in cells."""
    (left, right), (top, bottom) = (
        (
            max(0.0, -start) * cells / (end - start),
            cells - max(0.0, end - side) * cells / (end - start),
        )
        for start, end, side, cells in zip(box[:2], box[2:], size, shape[::-1], strict=True)
    )
    return (left, top, right, bottom)


def _normalize_map(
    saliency: Floats, shown_cells: Box, size: tuple[int, int], signed: bool, outliers: float
) -> NDArray[np.float32] | None:
    """The square root of the map in [0, 1], or in [-1, 1] with its sign if it is signed: its `shown_cells` at
    `size` (width, height); None for a map without evidence.
    """
    evidence = saliency.astype(np.float64)
    if not signed:
        evidence = np.maximum(evidence, 0)
    if not evidence.any():
        return None
    share = np.clip(evidence / _peak(np.abs(evidence), outliers), -1, 1)
    image = Image.fromarray(share.astype(np.float32))
    # Bicubic interpolation overshoots: around evidence for the target it would show evidence against it.
    smooth = Image.Resampling.BILINEAR if signed else Image.Resampling.BICUBIC
    resized = np.clip(np.asarray(image.resize(size, smooth, shown_cells)), -signed, 1)
    return np.copysign(np.sqrt(np.abs(resized)), resized)


def _peak(strength: Floats, outliers: float) -> float:
    """The largest strength, without this fraction of those above 0."""
    if outliers == 0:
        return float(strength.max())
    evidence = strength[strength > 0]
    rank = evidence.size - 1 - int(outliers * evidence.size)
    return float(np.partition(evidence, rank)[rank])


def _dim(photo: Image.Image) -> Image.Image:
    weights = tuple(weight * _UNSEEN for weight in LUMA)
    return photo.convert("L", (*weights, 0.0)).convert("RGB")


def _place_side_by_side(panels: Sequence[Image.Image]) -> Image.Image:
    return _stack([panels], [panel.width for panel in panels])


def _add_caption(image: Image.Image, caption: str | None) -> Image.Image:
    if caption is None:
        return image
    strip = render_text(caption, image.width, image.width // 36)
    return compose([(image, (0, 0)), (strip, (0, image.height))])


def _check_grid(
    rows: Sequence[Sequence[Image.Image]],
    column_titles: Sequence[str],
    row_titles: Sequence[str] | None,
    cell: int,
) -> None:
    if not any(map(len, rows)):
        raise SettingError("a grid needs at least one row with one image")
    if max(map(len, rows)) > len(column_titles):
        raise SettingError(
            f"{max(map(len, rows))} images in a row and {len(column_titles)} column titles; "
            "expected a title for each column"
        )
    if row_titles is not None and len(row_titles) != len(rows):
        raise SettingError(
            f"{len(row_titles)} row titles for {len(rows)} rows; expected a title for each row"
        )
    if not 32 <= cell <= 2048:
        raise SettingError(f"cell {cell}: expected 32 to 2048 pixels")


def thumbnail(image: Image.Image, cell: int) -> Image.Image:
    """The image, scaled to fit a square of `cell` pixels."""
    scale = cell / max(image.size)
    size = [max(1, round(side * scale)) for side in image.size]
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=3)


def _stack(image_rows: Sequence[Sequence[Image.Image]], widths: Sequence[int]) -> Image.Image:
    """The images in rows and columns, each in the middle of its cell."""
    lefts = np.cumsum([0, *(width + _GAP for width in widths)])
    heights = [max((image.height for image in image_row), default=1) for image_row in image_rows]
    tops = np.cumsum([0, *(height + _GAP for height in heights)])
    placed = [
        (image, (int(left) + (width - image.width) // 2, int(top) + (height - image.height) // 2))
        for image_row, top, height in zip(image_rows, tops, heights, strict=False)
        for image, left, width in zip(image_row, lefts, widths, strict=False)
    ]
    return compose(placed, (int(lefts[-1]) - _GAP, int(tops[-1]) - _GAP))


def enlarge(image: Image.Image, side: int) -> Image.Image:
    """The image, at least so large that a map can be drawn over it smoothly at `side` pixels: a multiple of its
    size.
    """
    factor = max(1, -(-2 * side // max(image.size)))
    size = (image.width * factor, image.height * factor)
    return image.resize(size, Image.Resampling.LANCZOS) if factor > 1 else image


def compose(
    placed: Sequence[tuple[Image.Image, tuple[int, int]]], size: tuple[int, int] | None = None
) -> Image.Image:
    """The images on a white sheet, each with its upper left corner at (left, top). Without `size`, (width,
    height), the sheet is as large as the images need.
    """
    if size is None:
        size = (
            max(left + image.width for image, (left, _) in placed),
            max(top + image.height for image, (_, top) in placed),
        )
    sheet = Image.new("RGB", size, PAPER)
    for image, corner in placed:
        sheet.paste(image, corner)
    return sheet
