"""A model as a small file and one of weights beside it, which ONNX Runtime maps instead of reading."""

from __future__ import annotations

from pathlib import Path

import onnx

LARGE = 1 << 12  # bytes of a weight that lies apart


def write_apart(content: bytes, path: Path, location: str) -> None:
    """Write the content of an .onnx file to `path`, and its large weights to the file `location` beside it,
    which must not be there yet. OSError where that fails.
    """
    onnx.save_model(
        onnx.load_from_string(content),
        path,
        save_as_external_data=True,
        location=location,
        size_threshold=LARGE,
    )
