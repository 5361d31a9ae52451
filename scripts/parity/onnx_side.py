"""Our side of parity.py: a model as exported, its layer, and a function that returns its gradients."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

import onnxcam
from onnxcam.errors import MissingRuleError, OnnxcamError
from onnxcam.model.free_batch import free_batch
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session

BATCH = 2
Run = Callable[[Any, Any], tuple[tuple[Any, Any], Any]]


def open_gradients(row: Any, path: Path) -> Run | None:
    """What returns our gradients at the image and the layer, and the layer's values, for images and a
    cotangent; None, with the reason in the row, where there are none.
    """
    try:
        model = onnxcam.load(path)
        row.opset, row.nodes = model.opset, len(model.graph.nodes)
        return _open(model, _layer(row, model), row)
    except MissingRuleError as error:
        counts = {operator: len(nodes) for operator, nodes in error.operators.items()}
        row.outcome, row.why = "no rule", json.dumps(counts)
    except OnnxcamError as error:
        row.outcome, row.why = type(error).__name__, str(error)[:300]
    return None


def open_other_batch(row: Any, path: Path) -> Run | None:
    """The same for a fixed batch where the file's is free, and for a free one where it is fixed; None where
    the model's own graph holds on to its batch.
    """
    proto = onnx.load(path)
    size = proto.graph.input[0].type.tensor_type.shape.dim[0]
    fixed = size.HasField("dim_value")
    if not fixed:
        size.dim_value = BATCH
    model = onnxcam.load(proto)
    chosen = free_batch(model, model.graph.inputs[0].name) if fixed else model
    if chosen is None:
        row.why = "its batch size cannot be made dynamic"
        return None
    return _open(chosen, None, None)


def _open(model: Any, layer: str | None, row: Any) -> Run:
    names = [model.graph.inputs[0].name, *([layer] if layer else [])]
    start = time.perf_counter()
    augmented = onnxcam.gradient(model, names)
    if row:
        row.build = (time.perf_counter() - start) / row.nodes * 1000
    outputs = [*(f"gradient/{name}" for name in names), *names[1:]]
    session = Session(augmented.bytes(), Device("cpu"))

    def run(x: Any, seed: Any) -> tuple[tuple[Any, Any], Any]:
        arrays = session.run(outputs, {names[0]: x, "seed": seed})
        return (arrays[0], arrays[1] if layer else None), arrays[2] if layer else None

    return run


def _layer(row: Any, model: Any) -> str | None:
    chosen = [layer for layer in onnxcam.layers(model) if layer.automatic]
    if not chosen:
        return None
    layer = chosen[0]
    row.layer, row.layout, row.tokens = layer.name, layer.layout, layer.tokens
    row.grid = "x".join(map(str, layer.grid))
    return str(layer.name)
