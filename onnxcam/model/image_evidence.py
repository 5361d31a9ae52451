"""What the graph of a model reveals about the preparation of its images; see `image/graph_evidence.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import Floats
from onnxcam.image.graph_evidence import ORDER, PRESET, REASON, application_of

_SEPARATORS = re.compile(r"[/;:]")
_CHANNELS = (1, 3)
_PASSES = ("Cast", "Identity", "Transpose")
_LARGEST_NORMALIZED = 10.0  # beyond it, values are not normalized
_IMAGENET_PIXELS = np.array([123.675, 116.28, 103.53])
_SAME_MEAN = 8.0  # levels between the means that are in use


class Normalization(NamedTuple):
    """What a graph does to its image first: multiply by `factor` and add `shift`, both (1,) or (channels,)."""

    factor: Floats
    shift: Floats
    nodes: tuple[str, ...]


def image_evidence(graph: gs.Graph) -> dict[str, str]:
    """Keys for the preset that the graph suggests, the order of channels, and the reason; empty without
    evidence.
    """
    if evidence := _evidence_of_normalization(graph):
        return evidence
    if application := application_of(_layer_names(graph)):
        reason = f"its layers are named like those of {application.name} of Keras"
        return {PRESET: application.preset, REASON: reason}
    return {}


def _layer_names(graph: gs.Graph) -> Iterator[str]:
    """The parts of the names of nodes and of what they write: converters keep the names of layers there."""
    for node in graph.nodes:
        yield from _SEPARATORS.split(node.name or "")
        yield from _SEPARATORS.split(node.outputs[0].name if node.outputs else "")


def _evidence_of_normalization(graph: gs.Graph) -> dict[str, str]:
    images = [tensor for tensor in graph.inputs if tensor.shape and len(tensor.shape) == 4]
    if not images or (normalization := find_normalization(images[0])) is None:
        return {}
    factor, shift, nodes = normalization
    reason = f"the model normalizes its images itself ({', '.join(nodes)})"
    black, white, one = shift, 255 * factor + shift, factor + shift
    if np.abs([black, white]).max() <= _LARGEST_NORMALIZED and np.abs(white - black).max() >= 0.5:
        return {PRESET: "raw", REASON: reason, **_order(-shift / factor)}
    if np.all(factor == 1) and np.abs(-shift - _IMAGENET_PIXELS.mean()).max() < 40:
        return {PRESET: "raw", REASON: reason, **_order(-shift)}
    is_centered = np.all(factor >= 1.5) and np.all(shift <= -0.4)
    if is_centered and np.abs([black, one]).max() <= _LARGEST_NORMALIZED:
        return {PRESET: "unit", REASON: reason, **_order(-shift / factor * 255)}
    return {}


def _order(mean: Floats) -> dict[str, str]:
    """The order of the channels, if it can be seen from the mean, in levels of 0 to 255."""
    is_bgr = mean.shape == (3,) and np.abs(mean - _IMAGENET_PIXELS[::-1]).max() < _SAME_MEAN
    return {ORDER: "bgr"} if is_bgr else {}


def find_normalization(image: gs.Tensor) -> Normalization | None:
    """The arithmetic with constants that an image passes before anything else; None if there is none."""
    factor: Floats = np.ones(1)
    shift: Floats = np.zeros(1)
    tensor, names = image, []
    while (node := _only_reader(tensor)) is not None:
        if node.op not in _PASSES:
            slot = next((i for i, t in enumerate(node.inputs) if isinstance(t, gs.Constant)), None)
            if node.op not in ("Add", "Sub", "Mul", "Div") or slot is None:
                break
            values = np.asarray(node.inputs[slot].values, np.float64).ravel()
            if values.size not in _CHANNELS or (slot == 0 and node.op == "Div"):
                break
            factor, shift = _apply(node.op, slot, values, factor, shift)
            names.append(node.name or node.op)
        tensor = node.outputs[0]
    factor, shift = np.broadcast_arrays(factor, shift)
    if not names or not np.isfinite([factor, shift]).all() or np.any(factor == 0):
        return None
    return Normalization(factor, shift, tuple(names))


def _only_reader(tensor: gs.Tensor) -> gs.Node | None:
    """The node that reads the values of a tensor; None if several do."""
    readers = [node for node in tensor.outputs if node.op != "Shape"]
    return readers[0] if len(readers) == 1 else None


def _apply(
    operator: str, slot: int, values: Floats, factor: Floats, shift: Floats
) -> tuple[Floats, Floats]:
    """Factor and shift after an operator with constants; `slot` is that of the constants."""
    match operator:
        case "Mul":
            return factor * values, shift * values
        case "Div":
            return factor / values, shift / values
        case "Add":
            return factor, shift + values
    return (factor, shift - values) if slot == 1 else (-factor, values - shift)
