"""Maps that are only rounding errors are set to zero, so that they count as empty, and a notice says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onnxcam.arrays import Floats, Images, Quantities, Saliency, Scores
from onnxcam.explain.run import Runner
from onnxcam.methods.rounding import (
    are_nearly_equal,
    first_order,
    is_below_rounding,
    is_small,
    magnitudes,
    quantities_from,
)
from onnxcam.targets.target import Target

# Factors of the cotangent. None is a power of two, so that all values are rounded differently.
NEARBY = (0.7, 1.1, 0.9, 1.3)
SATURATED = 0.999  # a probability above it


@dataclass(frozen=True)
class BoundFormula:
    """A formula with its settings; `select` keeps the chosen feature maps and neurons of its arguments."""

    formula: Callable[[Quantities], Saliency]
    select: Callable[[Quantities], Quantities]


def clear_rounding_errors(
    runner: Runner,
    image: Images,
    target: Target,
    scores: Scores,
    layers: Sequence[Quantities],
    maps: list[Saliency],
    method: BoundFormula,
) -> str | None:
    """Set the maps that are only rounding errors to zero, in place, and return a notice about them. Each map
    was computed from the quantities of one of the `layers`.
    """
    size = float(np.sum(np.abs(target.weights * scores[0])))
    erroneous, doubtful = [], []
    for quantities, saliency in zip(layers, maps, strict=True):
        selected = method.select(quantities)
        is_drawn, sizes = bool(np.max(saliency) > 0), magnitudes(selected, saliency)
        # a part of a layer may have a small effect, as long as the score depends on the complete layer
        is_below = is_drawn and is_below_rounding(sizes, size, runner.epsilon)
        erroneous.append(
            is_below and is_below_rounding(magnitudes(quantities, saliency), size, runner.epsilon)
        )
        doubtful.append(is_drawn and not erroneous[-1] and is_small(sizes, saliency, size))
    if any(doubtful):
        nearby = [runner.gradients_near(image, target, factor) for factor in NEARBY]
        for layer, quantities in enumerate(layers):
            if doubtful[layer]:
                gradients = [gradients[layer] for gradients in nearby]
                erroneous[layer] = not _is_confirmed(quantities, gradients, method)
    maps[:] = [
        np.zeros_like(saliency) if is_error else saliency
        for saliency, is_error in zip(maps, erroneous, strict=True)
    ]
    names = [
        layer.name
        for layer, is_error in zip(runner.plan.layers, erroneous, strict=True)
        if is_error
    ]
    return _notice(runner, target, size, names) if names else None


def _is_confirmed(
    quantities: Quantities, gradients: Sequence[Floats], method: BoundFormula
) -> bool:
    """Whether the map is nearly the same with gradients that were rounded differently."""
    repeats = [
        method.select(quantities_from([*quantities], quantities["activation"], gradient))
        for gradient in gradients
    ]
    first_orders = [first_order(repeat) for repeat in repeats]
    return are_nearly_equal(first_orders) and are_nearly_equal(
        [method.formula(repeat) for repeat in repeats]
    )


def _notice(runner: Runner, target: Target, size: float, names: Sequence[str]) -> str:
    return (
        f"{target.name}: the map at {', '.join(names)} is empty, because the evidence is no larger than "
        f"rounding errors; {_hint(runner, size)}"
    )


def _hint(runner: Runner, size: float) -> str:
    score = runner.plan.score
    is_probability = (
        score.probability or runner.plan.explained_tensor == score.output != score.logits
    )
    if is_probability and size > SATURATED:
        hint = (
            "name the tensor before the activation with --output"
            if score.probability
            else "explain the logit instead (--score logit)"
        )
        return f"the probability is saturated at {size:.6g}: {hint}"
    return "choose another layer (`onnxcam layers`), target or method"
