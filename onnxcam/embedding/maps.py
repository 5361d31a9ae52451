"""From quantities to the outputs of the file: the formula of the method, called on Values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxcam.arrays import FLOAT32
from onnxcam.explain.formula import BoundFormula, join_tensors
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value
from onnxcam.methods import QUANTITIES
from onnxcam.methods.postprocess import fuse_maps, resize_bilinear
from onnxcam.methods.subset import COUNTED
from onnxcam.specs import ImageInput, Layer


@dataclass(frozen=True)
class LayerQuantities:
    """The quantities of a layer by name, as the model arranges them, and the unit of its gradients."""

    layer: Layer
    values: Mapping[str, Value]
    unit: Value | None


def write_maps(
    formula: BoundFormula,
    image: ImageInput,
    layers: Sequence[LayerQuantities],
    named: Mapping[str, Any],
    fuse: str,
) -> Value:
    """The map (N, h, w) in float32, in the graph of the quantities."""
    arranged = [_arrange(formula, image, layer) | dict(named) for layer in layers]
    if formula.takes_tensors:
        maps = [formula.compute(join_tensors(arranged)).saliency]
    else:
        maps = [formula.compute(quantities).saliency for quantities in arranged]
    fused: Any = maps[0] if len(maps) == 1 else fuse_maps(maps, fuse)
    result: Value = fused.astype(FLOAT32)
    return result


def resize_map(saliency: Value, height: int, width: int) -> Value:
    """(N, height, width) float32."""
    resized: Any = resize_bilinear(saliency, height, width)  # type: ignore[arg-type]
    result: Value = resized.astype(FLOAT32)
    return result


def _arrange(
    formula: BoundFormula, image: ImageInput, quantities: LayerQuantities
) -> dict[str, Any]:
    """The quantities with the channels first, in the unit of the layer, and what the formula takes besides."""
    aspect_ratio = (image.height or 1) / (image.width or 1)
    arranged: dict[str, Any] = {}
    for name, value in quantities.values.items():
        place = QUANTITIES[name].place
        layer = quantities.layer if place == "layer" else image.as_layer()
        first: Any = (
            layer.channels_first(value, aspect_ratio, np.float32)  # type: ignore[arg-type]
            if place
            else value.astype(FLOAT32)
        )
        arranged[name] = first
    if formula.method.has_layer:
        arranged = _in_unit(arranged, quantities.unit)
        if COUNTED in formula.method.parameters:
            arranged[COUNTED] = anp.ones_like(arranged["activation"])
    return arranged


def _in_unit(quantities: dict[str, Any], unit: Value | None) -> dict[str, Any]:
    """The quantities of a layer in a unit of its values in which the largest gradient is 1: powers of small
    gradients would vanish in float32. Powers above the first are in that unit already.
    """
    gradient = quantities.get("gradient")
    if unit is None and gradient is not None and "activation" in quantities:
        largest = anp.max(anp.abs(gradient), axis=(1, 2, 3), keepdims=True)
        unit = anp.where(largest > 0, largest, 1.0)
    if unit is None:
        return quantities
    return {name: _convert(name, value, unit) for name, value in quantities.items()}


def _convert(name: str, value: Any, unit: Value) -> Any:
    quantity = QUANTITIES[name]
    if quantity.place != "layer":
        return value
    if quantity.degree == 1:
        return value / unit
    return value * unit if quantity.sources == {"activation"} else value
