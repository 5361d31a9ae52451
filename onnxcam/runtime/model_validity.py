"""Whether a model that could not be rewritten is invalid: ONNX Runtime tries to open it unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnxruntime as ort

from onnxcam.errors import ModelError, UnforeseenError, first_line
from onnxcam.runtime.session import QUIET


@contextmanager
def blames_invalid_models(model: object) -> Iterator[None]:
    """Turn an UnforeseenError into a ModelError if ONNX Runtime does not open the model either. Only models
    from a path or bytes are tried.
    """
    try:
        yield
    except UnforeseenError as error:
        if isinstance(model, (str, Path, bytes)) and (reason := reason_not_opened(model)):
            raise ModelError(
                f"ONNX Runtime cannot open the model: {reason}; correct the model and export it again"
            ) from error
        raise


def reason_not_opened(model: str | Path | bytes) -> str:
    """Why ONNX Runtime does not open the unchanged model; empty if it does."""
    options = ort.SessionOptions()
    options.log_severity_level = QUIET
    # nothing is folded
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  of its own types
        return first_line(error)
    return ""
