"""Models of torch, exported."""

import contextlib
import io
import warnings
from collections.abc import Sequence
from typing import Any

import onnx
import torch

AXES: dict[str, dict[int, str]] = {
    "fixed": {},
    "batch": {0: "batch"},
    "size": {0: "batch", 2: "height", 3: "width"},
}


def export(
    model: Any, x: Any, sizes: str, dynamo: bool, outputs: Sequence[str] = ("scores", "maps")
) -> onnx.ModelProto:
    """The exported model; what the exporters print and warn of is suppressed."""
    file = io.BytesIO()
    names = {"input_names": ["image"], "output_names": list(outputs)}
    if dynamo:
        dims = {axis: torch.export.Dim(word, min=2, max=64) for axis, word in AXES[sizes].items()}
        form: dict[str, Any] = {"dynamic_shapes": {"x": dims}} if dims else {}
    else:
        axes = {"scores": {0: "batch"}, "maps": AXES[sizes]}
        free = {name: axes[name] for name in outputs if name in axes}
        form = {"dynamic_axes": {"image": AXES[sizes], **free}} if sizes != "fixed" else {}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if dynamo:
            program = torch.onnx.export(model, (x,), dynamo=True, verbose=False, **names, **form)
            return program.model_proto
        torch.onnx.export(model, (x,), file, dynamo=False, **names, **form)
    return onnx.load_from_string(file.getvalue())
