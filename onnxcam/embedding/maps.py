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
from onnxcam.methods.units import unit_power
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
    evidence: Sequence[Value] | None = None,
) -> Value:
    """The map (N, h, w) in float32, in the graph of the quantities; 0 where the layer's `evidence` is False."""
    arranged = [_arrange(formula, image, layer) | dict(named) for layer in layers]
    power = unit_power(formula.method, formula.settings)
    if formula.takes_tensors:
        maps = [formula.compute(join_tensors(arranged)).saliency]
    elif power is None:
        maps = [formula.compute(quantities).saliency for quantities in arranged]
    else:
        pairs = zip(arranged, layers, strict=True)
        maps = [
            _in_unit(formula, quantities, _unit_of(quantities, layer), power)
            for quantities, layer in pairs
        ]
    if evidence is not None:
        cleared: Any = zip(evidence, maps, strict=True)
        maps[:] = [anp.where(has_evidence, saliency, 0.0) for has_evidence, saliency in cleared]
    fused: Any = maps[0] if len(maps) == 1 else fuse_maps(maps, fuse)
    result: Value = fused.astype(FLOAT32)
    return result


def resize_map(saliency: Value, height: int, width: int) -> Value:
    """(N, height, width) float32."""
    resized: Any = resize_bilinear(saliency, height, width)  # type: ignore[arg-type]
    result: Value = resized.astype(FLOAT32)
    return result


def only_where(output: Value, exists: Value | None) -> Value:
    """The output (N, ...) of images whose target exists. Others get NaN, which is no map, or black pixels."""
    if exists is None:
        return output
    is_map = output.dtype == FLOAT32
    nothing = output.constant_like(np.nan if is_map else 0)
    return anp.where(anp.reshape(exists, (-1, *[1] * (output.ndim - 1))), output, nothing)


def _arrange(
    formula: BoundFormula, image: ImageInput, quantities: LayerQuantities
) -> dict[str, Any]:
    """The quantities with the channels first, and what the formula takes besides."""
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
    if formula.method.has_layer and COUNTED in formula.method.parameters:
        arranged[COUNTED] = anp.ones_like(arranged["activation"])
    return arranged


def _unit_of(quantities: Mapping[str, Any], layer: LayerQuantities) -> Value | None:
    """(N, 1, 1, 1): the unit of the gradients, in which the largest is 1: powers of small gradients would
    vanish in float32. None if the formula takes no gradient.
    """
    gradient = quantities.get("gradient")
    if layer.unit is not None or gradient is None or "activation" not in quantities:
        return layer.unit
    largest = anp.max(anp.abs(gradient), axis=(1, 2, 3), keepdims=True)
    return anp.where(largest > 0, largest, 1.0)


def _in_unit(
    formula: BoundFormula, quantities: Mapping[str, Any], unit: Value | None, power: int
) -> Any:
    """The map, computed from quantities in a unit, which is to this power in what the formula returns."""
    if unit is None:
        return formula.compute(quantities).saliency
    converted = {name: _convert(name, value, unit) for name, value in quantities.items()}
    saliency: Any = formula.compute(converted).saliency
    for _ in range(abs(power)):
        factor = anp.squeeze(unit, 1)
        saliency = saliency / factor if power > 0 else saliency * factor
    return saliency


def _convert(name: str, value: Any, unit: Value) -> Any:
    """A quantity in the unit; powers of the gradient above the first are in it already."""
    if name not in QUANTITIES or QUANTITIES[name].place != "layer":
        return value
    quantity = QUANTITIES[name]
    if quantity.degree == 1:
        return value / unit
    return value * unit if quantity.sources == {"activation"} else value
