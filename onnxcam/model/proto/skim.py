"""Read the protocol buffer of a file without its large weights, which become external data in the file itself.

Only the fields of the model, its graph and its initializers are looked at; everything else is copied.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import onnx

from onnxcam.errors import ModelError
from onnxcam.model.proto.read import parse_content, read_proto
from onnxcam.regular_files import open_regular

SKIPPED_BYTES = 1 << 16  # of a weight, from which on it is not read
GRAPH, INITIALIZER, RAW_DATA, EXTERNAL_DATA = 7, 5, 9, 13  # numbers of fields, in onnx.proto
VARINT, FIXED64, LENGTH, FIXED32 = (
    0,
    1,
    2,
    5,
)  # types of fields, in the encoding of protocol buffers

Rewrite: TypeAlias = Callable[
    [mmap.mmap, int, int], bytes
]  # a message between two offsets, rewritten


class Field(NamedTuple):
    """A field of a message: its number, and where it, its value and the next field begin."""

    number: int
    start: int
    value: int
    stop: int


def skim_proto(path: Path) -> onnx.ModelProto:
    """The protocol buffer of a file, with its large weights as external data. ModelError as `read_proto`."""
    try:
        with (
            open_regular(path) as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            tensor = partial(_refer, path.name)
            graph = partial(_rewrite, {INITIALIZER: tensor})
            skimmed = _rewrite({GRAPH: graph}, content, 0, len(content))
        return parse_content(skimmed, str(path))
    except (OSError, ValueError, IndexError, ModelError):
        return read_proto(path)  # also for a better error


def _rewrite(rules: Mapping[int, Rewrite], content: mmap.mmap, start: int, stop: int) -> bytes:
    """A message in which the fields with these numbers, which are messages, are rewritten."""
    return b"".join(
        _message(field.number, rules[field.number](content, field.value, field.stop))
        if field.number in rules
        else content[field.start : field.stop]
        for field in _fields(content, start, stop)
    )


def _refer(location: str, content: mmap.mmap, start: int, stop: int) -> bytes:
    """A tensor that refers to its own content in the file, if that is large."""
    fields = list(_fields(content, start, stop))
    large = [f for f in fields if f.number == RAW_DATA and f.stop - f.value >= SKIPPED_BYTES]
    if len(large) != 1 or any(field.number == EXTERNAL_DATA for field in fields):
        return content[start:stop]
    reference = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
    offset, length = large[0].value, large[0].stop - large[0].value
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        reference.external_data.add(key=key, value=str(value))
    others = b"".join(content[f.start : f.stop] for f in fields if f is not large[0])
    return others + bytes(reference.SerializeToString())


def _fields(content: mmap.mmap, start: int, stop: int) -> Iterator[Field]:
    """The fields of the message between two offsets. ValueError or IndexError if it is damaged."""
    while start < stop:
        key, value = _varint(content, start)
        number, kind = key >> 3, key & 7
        end = value
        if kind == VARINT:
            end = _varint(content, value)[1]
        elif kind == LENGTH:
            size, value = _varint(content, value)
            end = value + size
        elif kind in (FIXED32, FIXED64):
            end = value + (4 if kind == FIXED32 else 8)
        if (end == value and kind != LENGTH) or end > stop:
            raise ValueError(f"a damaged field at {start}")
        yield Field(number, start, value, end)
        start = end


def _varint(content: mmap.mmap, start: int) -> tuple[int, int]:
    """The number that begins at an offset, and the offset after it."""
    number, shift = 0, 0
    while True:
        byte = content[start]
        number |= (byte & 127) << shift
        start, shift = start + 1, shift + 7
        if byte < 128:
            return number, start
        if shift > 63:
            raise ValueError(f"a number without an end at {start}")


def _message(number: int, content: bytes) -> bytes:
    """A field that holds a message."""
    return _encode(number << 3 | LENGTH) + _encode(len(content)) + content


def _encode(number: int) -> bytes:
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])
