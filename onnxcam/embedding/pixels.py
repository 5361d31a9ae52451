"""Preprocessing in the graph: uint8 pixels of any size become the tensor that a model expects, as `prepare` of
`image.preprocess` makes it with Pillow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxcam.arrays import Array, Dim
from onnxcam.embedding.metadata import PIXELS
from onnxcam.embedding.placement import Span, place_spans
from onnxcam.embedding.resample import (
    FILTERS,
    Filter,
    Weights,
    round_levels,
    split_first,
    write_weights,
)
from onnxcam.graph import anp
from onnxcam.graph.slicing import dim_size
from onnxcam.graph.tracing import Builder, Value
from onnxcam.image.preprocess import Preprocessing, level_table, tensor_size
from onnxcam.specs import ImageInput

_BLOCKS = 8  # of columns: a large image takes a third of the time, a small one as long as before
_FEWEST_COLUMNS = 16  # of a block
_PADDING = 256  # the row of a table of levels
_LUMA = (19595.0, 38470.0, 7471.0)  # of 65536: the gray of a pixel, as Pillow has it in integers


@dataclass(frozen=True)
class PixelInput:
    """`tensor` is what the model takes: (N, C, H, W) or (N, H, W, C), float32 or the model's own dtype.
    `shown`, (N, H, W, 3) uint8, is the RGB image that it shows, resized, cropped and padded.
    """

    tensor: Value
    shown: Value


def take_pixels(
    build: Builder,
    image: Value,
    preprocessing: Preprocessing,
    takes: ImageInput,
    name: str = PIXELS,
) -> Value:
    """Let a graph take pixels, by this name, in place of its input `image`, in place; returns what the tensor
    shows.

    Raises what `add_pixel_input` raises.
    """
    result = add_pixel_input(build, preprocessing, takes, name, images=image.shape[0])
    tensor = result.tensor.astype(image.dtype)
    inputs = build.graph.inputs
    inputs[[id(own) for own in inputs].index(id(image.tensor))] = inputs.pop()
    tensor.tensor.inputs[0].outputs = [image.tensor]
    return result.shown


def add_pixel_input(
    build: Builder,
    preprocessing: Preprocessing,
    takes: ImageInput,
    name: str = PIXELS,
    *,
    images: Dim = "N",
) -> PixelInput:
    """Add the graph input `name`, (images, height, width, 3) uint8 RGB of any size from 1 to 16384 pixels, and
    write what makes a model's input of it. Needs opset 12.

    The levels of the pixels are those of `prepare`, up to 2; where they are equal, the tensor is equal, too.

    Raises:
        SettingError: As `prepare` raises it, for any image.
        ModelError: The model already has a tensor of this name.
        NeedsOpsetError: The opset is below 12.
    """
    size, table = tensor_size(preprocessing, takes), level_table(preprocessing, takes)
    shape = (images, "pixel_height", "pixel_width", 3)
    pixels = build.input(name, np.dtype(np.uint8), shape)
    sides = (dim_size(pixels, 1), dim_size(pixels, 2))
    rows, columns = place_spans(sides, size, preprocessing.fit, preprocessing.crop_ratio)
    levels = _resize(pixels, rows, columns, FILTERS[preprocessing.resample])
    is_padded = preprocessing.fit in ("letterbox", "letterbox-corner")
    inside = _inside(rows, columns) if is_padded else None
    return PixelInput(
        _look_up(levels, table, preprocessing.order == "bgr", takes, inside),
        _show(levels, preprocessing, takes, inside),
    )


def describe_steps(preprocessing: Preprocessing) -> str | None:
    """What a user should know of a filter with steps; None for the others."""
    if FILTERS[preprocessing.resample].weights is not FILTERS["box"].weights:
        return None
    return (
        f"where the filter {preprocessing.resample} ends exactly between two pixels, the file may take the "
        "neighbor of the pixel that Pillow takes; the other filters agree with Pillow to 2 gray levels"
    )


def _resize(pixels: Value, rows: Span, columns: Span, kernel: Filter) -> Value:
    """(N, 3, H, W) float32, integer levels.

    Levels are rounded and limited to 0 to 255 after each pass, so that the order of the passes matters. Pillow
    resamples the rows first; since version 13 the columns, if the height shrinks by more than twice as many
    pixels as the width. Such an image is transposed before and after.
    """
    if not kernel.is_stretched:  # no pass rounds
        return _resample(pixels, rows, columns, kernel)
    is_turned = _columns_come_first(rows, columns)
    side = max(rows.shown, columns.shown)
    first, second = (
        Span(
            anp.where(is_turned, turned.size, upright.size),
            anp.where(is_turned, turned.resized, upright.resized),
            anp.where(is_turned, turned.start, upright.start),
            side,
        )
        for upright, turned in ((columns, rows), (rows, columns))
    )
    levels = _resample(_transpose_if(is_turned, pixels, second, first), second, first, kernel)
    restored = anp.where(is_turned, anp.swapaxes(levels, 2, 3), levels)
    return restored[:, :, : rows.shown, : columns.shown]


def _columns_come_first(rows: Span, columns: Span) -> Value:
    """Whether Pillow resamples the columns first, bool (1,)."""
    height, width = (span.size - anp.minimum(span.resized, span.shown) for span in (rows, columns))
    return (height > 0) & (height > width * 2)


def _transpose_if(condition: Value, pixels: Value, rows: Span, columns: Span) -> Value:
    """The pixels (N, height, width, 3) with these rows and columns, exchanged if the condition (1,) holds. The
    variant that is not needed has one pixel.
    """
    build = pixels.build
    corner, axes = build.constant(np.array([0, 0])), build.constant(np.array([1, 2]))
    sides = build.op("Gather", build.op("Shape", pixels), axes, axis=0)
    one = build.constant(np.array([1, 1]))
    upright, turned = (
        build.op("Slice", pixels, corner, end, axes)
        for end in (anp.where(condition, one, sides), anp.where(condition, sides, one))
    )
    variants = (upright, anp.transpose(turned, (0, 2, 1, 3)))
    flat = anp.concatenate([anp.reshape(variant, (0, -1, 3)) for variant in variants], axis=1)
    first = condition.astype(np.int64)
    used = build.op("Slice", flat, first, first + rows.size * columns.size, axes[:1])
    shape = anp.concatenate([corner[:1], rows.size, columns.size, corner[:1] + 3])
    return build.op("Reshape", used, shape, shape=(pixels.shape[0], None, None, 3))


def _resample(pixels: Value, rows: Span, columns: Span, kernel: Filter) -> Value:
    """(N, 3, H, W): first the rows, and only those that the result shows; in blocks of columns, since a row of
    the result depends on a small part of the image.
    """
    build = pixels.build
    blocks = max(1, min(_BLOCKS, columns.shown // _FEWEST_COLUMNS))
    down, across = write_weights(rows, kernel, 1), write_weights(columns, kernel, blocks)
    parts = []
    for (begin, end), matrix in zip(
        _corners(down, across, blocks), split_first(across.matrix, blocks), strict=True
    ):
        part = build.op("Slice", pixels, begin, end, build.constant(np.array([1, 2])))
        part = anp.transpose(part, (0, 3, 1, 2)).astype(np.float32)
        parts.append(anp.matmul(part, matrix))
    joined = anp.concatenate(parts, axis=3) if blocks > 1 else parts[0]
    if joined.shape[3] != columns.shown:
        joined = joined[..., : columns.shown]
    narrow = round_levels(joined, kernel)
    return round_levels(anp.matmul(anp.transpose(down.matrix, (0, 2, 1)), narrow), kernel)


def _corners(down: Weights, across: Weights, blocks: int) -> Iterator[tuple[Value, Value]]:
    """The first and the end of the rows and columns of each block, (2,)."""
    rows = anp.broadcast_to(down.first, (blocks,)) if blocks > 1 else down.first
    first = anp.stack([rows, across.first], axis=1)
    end = first + anp.concatenate([down.number, across.number])
    corners = (split_first(anp.reshape(numbers, -1), blocks) for numbers in (first, end))
    return zip(*corners, strict=True)


def _inside(rows: Span, columns: Span) -> Value:
    """(H, W): which pixels of the tensor show the image; the others are padding."""
    is_row, is_column = (
        (position >= 0) & (position < span.resized)
        for span in (rows, columns)
        for position in [span.start + np.arange(span.shown)]
    )
    return anp.expand_dims(is_row, 1) & anp.expand_dims(is_column, 0)


def _look_up(
    levels: Value, table: Array, is_bgr: bool, takes: ImageInput, inside: Value | None
) -> Value:
    """The values in the table (257, C) for the levels (N, 3, H, W) of RGB, in the layout of the model."""
    build, channels = levels.build, table.shape[1]
    if channels == 1:
        levels = _gray(levels)
    elif is_bgr:
        levels = anp.take(levels, [2, 1, 0], axis=1)
    if inside is not None:
        levels = anp.where(inside, levels, float(_PADDING))
    first = np.arange(channels, dtype=np.float32).reshape(-1, 1, 1) * len(table)
    index = (levels + first if channels > 1 else levels).astype(np.int32)
    if takes.layout == "NHWC":
        index = anp.moveaxis(index, 1, -1)
    return anp.take(build.constant(table.T.ravel()), index, axis=0)


def _gray(levels: Value) -> Value:
    """(N, 1, H, W): in float32 these sums of integers are exact."""
    weights = np.array(_LUMA, np.float32).reshape(-1, 1, 1)
    return anp.floor((anp.sum(levels * weights, axis=1, keepdims=True) + 32768.0) * (1 / 65536))


def _show(
    levels: Value, preprocessing: Preprocessing, takes: ImageInput, inside: Value | None
) -> Value:
    """(N, H, W, 3) uint8 RGB, padding included."""
    if inside is not None:
        pad = np.array(preprocessing.pad, np.float32)
        if takes.channels == 1:
            pad = pad.mean(keepdims=True)
        elif preprocessing.order == "bgr":
            pad = pad[::-1]
        levels = anp.where(inside, levels, np.rint(pad).reshape(-1, 1, 1))
    return anp.moveaxis(levels, 1, -1).astype(np.uint8)
