"""Read the content of an .onnx file, and the protocol buffer in it. External data is not read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from onnxcam.errors import ModelError, first_line

MAX_FILE_BYTES = (1 << 31) - 1  # of a protocol buffer


def read_proto(path: Path) -> onnx.ModelProto:
    """The protocol buffer in a file. ModelError if it cannot be read, or holds no graph."""
    return parse_content(read_content(path), str(path))


def read_content(path: Path) -> bytes:
    """The content of a file or a pipe, but not of a device, which may have no end."""
    try:
        _check_file(path, path.stat())
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{path}: cannot be read ({reason}); check the path") from error


def _check_file(path: Path, status: os.stat_result) -> None:
    """ModelError for a folder, a device, or a file that is too large."""
    if stat.S_ISDIR(status.st_mode):
        raise ModelError(f"{path}: is a folder; name the .onnx file in it")
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
        raise ModelError(f"{path}: is a device or a socket; name an .onnx file")
    if status.st_size > MAX_FILE_BYTES:
        raise ModelError(
            f"{path}: has {status.st_size} bytes, more than the {MAX_FILE_BYTES} that an .onnx file can have; "
            "export it with its weights as external data"
        )


def parse_content(content: bytes, name: str) -> onnx.ModelProto:
    """The protocol buffer in the content of a file. ModelError if there is none, or no graph in it."""
    try:
        proto = onnx.load_from_string(content)
    except (DecodeError, ValueError) as error:
        if "alloc failed" in str(error):
            raise ModelError(
                f"{name}: out of memory while its {len(content)} bytes were parsed; close other programs"
            ) from error
        raise ModelError(
            f"{name}: not an ONNX model, or truncated ({len(content)} bytes read: {first_line(error)}); "
            "copy or export the file again"
        ) from error
    if not proto.HasField("graph") or not proto.graph.node:
        raise ModelError(
            f"{name}: is an ONNX file without a graph ({len(content)} bytes); export it again"
        )
    return proto
