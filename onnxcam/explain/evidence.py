"""Maps that are only rounding errors are set to zero and flagged as empty, and a notice says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from onnxcam.arrays import Floats, Images, Saliency, Scores
from onnxcam.explain.run import Runner
from onnxcam.methods.rounding import (
    are_alike,
    first_order,
    is_below_rounding,
    is_small,
    magnitudes,
    probed_of,
)
from onnxcam.targets.classes import Target

# Factors of the cotangent. None is a power of two, so that all values are rounded differently.
NEARBY = (0.7, 1.1, 0.9, 1.3)
SATURATED = 0.999  # a probability above it


Probed: TypeAlias = dict[str, Floats]  # what a formula asks for, by name


@dataclass(frozen=True)
class Method:
    """The formula, with its settings, and the feature maps and neurons that count."""

    formula: Callable[[Probed], Saliency]
    choose: Callable[[Probed], Probed]


def rounding_notice(
    probe: Runner,
    image: Images,
    target: Target,
    scores: Scores,
    probed: Sequence[Probed],
    maps: list[Saliency],
    method: Method,
) -> str | None:
    """Set the maps that are only rounding errors to zero, in place, and return a notice about them. Each map
    was made from one layer's `probed`.
    """
    size = float(np.sum(np.abs(target.weights * scores[0])))
    lost, doubtful = [], []
    for values, saliency in zip(probed, maps, strict=True):
        chosen = method.choose(values)
        drawn, sizes = bool(np.max(saliency) > 0), magnitudes(chosen, saliency)
        # a part of a layer may have a small effect, as long as the score depends on the whole layer
        below = drawn and is_below_rounding(sizes, size, probe.step)
        lost.append(below and is_below_rounding(magnitudes(values, saliency), size, probe.step))
        doubtful.append(drawn and not lost[-1] and is_small(sizes, saliency, size))
    if any(doubtful):
        nearby = [probe.gradients_near(image, target, factor) for factor in NEARBY]
        for layer, values in enumerate(probed):
            if doubtful[layer]:
                gradients = [gradients[layer] for gradients in nearby]
                lost[layer] = not _is_confirmed(values, gradients, method)
    maps[:] = [
        np.zeros_like(saliency) if gone else saliency
        for saliency, gone in zip(maps, lost, strict=True)
    ]
    names = [layer.name for layer, gone in zip(probe.plan.layers, lost, strict=True) if gone]
    return _notice(probe, target, size, names) if names else None


def _is_confirmed(probed: Probed, gradients: Sequence[Floats], method: Method) -> bool:
    """Whether the map is nearly the same with gradients that were rounded differently."""
    repeats = [
        method.choose(probed_of([*probed], probed["activation"], gradient))
        for gradient in gradients
    ]
    first_orders = [first_order(values) for values in repeats]
    return are_alike(first_orders) and are_alike([method.formula(values) for values in repeats])


def _notice(probe: Runner, target: Target, size: float, names: Sequence[str]) -> str:
    return (
        f"{target.name}: the map at {', '.join(names)} is empty, because the score depends on it by no more "
        f"than rounding errors; {_cure(probe, size)}"
    )


def _cure(probe: Runner, size: float) -> str:
    score = probe.plan.score
    squashed = score.probability or probe.plan.explained_tensor == score.output != score.logits
    if squashed and size > SATURATED:
        name = (
            "name the tensor before it with --output"
            if score.probability
            else "explain the logit instead (--score logit)"
        )
        return f"the probability is saturated at {size:.6g}: {name}"
    return "choose another layer (`onnxcam layers`), target or method"
