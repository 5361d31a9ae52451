"""PNG files, written fast: a photograph's file must not take longer than its explanation."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TRUECOLOR = (8, 2, 0, 0, 0)  # bits, color type RGB, and the only compression, filters and order
_AVERAGE = 3  # the filter: each byte minus the mean of those to the left and above
_CHANNELS = 3


def encode_png(image: Image.Image) -> bytes:
    """An image, in RGB, as the content of a PNG file (W3C, third edition).

    Pillow tries five filters for each row, and searches for repeated strings, of which photographs
    have few. Here all rows have the filter that suits photographs, and only runs of equal bytes are
    looked for: for a heat map over a photograph, a tenth of the time for a tenth more bytes.
    """
    stream = zlib.compressobj(1, strategy=zlib.Z_RLE)
    data = stream.compress(_filter_rows(np.asarray(image.convert("RGB"))).data) + stream.flush()
    header = struct.pack(">IIBBBBB", image.width, image.height, *_TRUECOLOR)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks)


def _filter_rows(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, 1 + 3 W): the filter's number and the filtered bytes of each row."""
    rows = pixels.reshape(len(pixels), -1)
    left, above = np.zeros_like(rows), np.zeros_like(rows)
    left[:, _CHANNELS:] = rows[:, :-_CHANNELS]
    above[1:] = rows[:-1]
    mean = (left & above) + ((left ^ above) >> 1)  # rounded down, without overflow
    filters = np.full((len(rows), 1), _AVERAGE, np.uint8)
    return np.concatenate([filters, rows - mean], axis=1)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
    )
