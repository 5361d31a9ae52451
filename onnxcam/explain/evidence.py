"""Maps that are only rounding errors are set to zero, so that they count as empty, and a notice says why."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from onnxcam.arrays import Floats, Images, Quantities, Saliency, Scores
from onnxcam.explain.formula import BoundFormula, MapResult
from onnxcam.methods.quantities import QUANTITIES
from onnxcam.methods.rounding import (
    SMALL,
    are_nearly_equal,
    first_order,
    is_below_rounding,
    is_same_in_all_samples,
    is_small,
    magnitudes,
)
from onnxcam.specs import Plan
from onnxcam.targets.target import Target

# Factors of the cotangent. None is a power of two, so that all values are rounded differently.
NEARBY = (0.7, 1.1, 0.9, 1.3)
SATURATED = 0.999  # a probability above it


def clear_rounding_errors(
    plan: Plan,
    target: Target,
    scores: Scores,
    layers: Sequence[Quantities],
    maps: list[MapResult],
    formula: BoundFormula,
    nearby: Callable[[float], list[Quantities]],
    image: Images,
) -> str | None:
    """Set the maps (1, h, w) that are only rounding errors to zero, in place, and return a notice about them.
    Each map was computed from the quantities of one of the `layers`; `nearby` computes them again close to the
    `image` (1, ...), for a factor of the target (see `Runner.nearby`). Nothing is done for methods without a
    gradient.
    """
    if any("activation" not in layer or first_order(layer) is None for layer in layers):
        return None
    size, epsilon = float(np.sum(np.abs(target.weights * scores))), plan.epsilon
    is_one = _is_rounded_to_one(plan, target, size, formula)
    erroneous, doubtful = [], []
    for quantities, result in zip(layers, maps, strict=True):
        selected, factors = formula.select(quantities), _factors(quantities, formula)
        saliency = _in_units_of_gradient(result, formula, factors)
        is_drawn, sizes = bool(np.any(saliency)), magnitudes(selected, saliency)
        # a part of a layer may have a small effect, as long as the score depends on the complete layer
        is_below = is_drawn and is_below_rounding(sizes, size, epsilon)
        erroneous.append(
            (is_drawn and is_one)
            or (is_below and is_below_rounding(magnitudes(quantities, saliency), size, epsilon))
        )
        if formula.method.variance and is_drawn:
            erroneous[-1] |= is_same_in_all_samples(selected, result.saliency, epsilon)
        is_doubtful = is_small(sizes, saliency, size) or any(
            _effect(factor, plan, image) <= SMALL * size for factor in factors
        )
        doubtful.append(is_drawn and not erroneous[-1] and is_doubtful)
    if any(doubtful):
        repeats = [nearby(factor) for factor in NEARBY]
        for layer, quantities in enumerate(layers):
            if doubtful[layer]:
                # gradients that were computed again come first, before those that a sampler named
                close = [{**repeat[layer], **quantities, **repeat[layer]} for repeat in repeats]
                erroneous[layer] = not _is_confirmed(close, formula)
    maps[:] = [
        result.cleared() if is_error else result
        for result, is_error in zip(maps, erroneous, strict=True)
    ]
    names = [layer.name for layer, is_error in zip(plan.layers, erroneous, strict=True) if is_error]
    return _notice(plan, target, size, names) if names else None


def _factors(quantities: Quantities, formula: BoundFormula) -> list[Floats]:
    """The gradients at the image by which a map of a layer was multiplied."""
    names = formula.quantities.values() if formula.method.has_layer else ()
    rows = (QUANTITIES[name] for name in names)
    return [quantities[row.name] for row in rows if row.needs_gradient and row.place == "image"]


def _effect(gradient: Floats, plan: Plan, image: Images) -> float:
    """Sum |x g| of a gradient (1, C, H, W) at the image."""
    pixels = plan.image.as_layer().channels_first(image, 1.0)
    return float(np.einsum("nchw,nchw->", np.abs(pixels), np.abs(gradient)))


def _is_rounded_to_one(plan: Plan, target: Target, size: float, formula: BoundFormula) -> bool:
    """Whether the probability of a class is 1 after rounding: the derivative with respect to its own logit,
    p (1 - p), is then lost, and only those of the other classes would be drawn. Samples may still tell it.
    """
    score = plan.score
    is_softmax = score.output_activation == "Softmax" and score.exact_activation
    is_explained = is_softmax and plan.explained_tensor == score.output != score.logits
    is_one_class = np.count_nonzero(target.weights) == 1
    is_clean = not formula.method.sampler.varies
    return is_explained and is_one_class and is_clean and size >= 1 - plan.epsilon


def _in_units_of_gradient(
    result: MapResult, formula: BoundFormula, factors: Sequence[Floats]
) -> Saliency:
    """The map, or the root of one that is proportional to squares of the gradient, without the units of its
    `factors`.
    """
    order = formula.order
    saliency = result.saliency if order == 1 else np.abs(result.saliency) ** (1 / order)
    unit = math.prod(float(np.max(np.abs(factor))) for factor in factors)
    return saliency / unit if unit > 0 else saliency


def _is_confirmed(repeats: Sequence[Quantities], formula: BoundFormula) -> bool:
    """Whether the map is nearly the same with gradients that were rounded differently. Of a variance, which
    one sample does not have, whether the gradients are.
    """
    selected = [formula.select(repeat) for repeat in repeats]
    gradients: list[Floats] = [np.asarray(first_order(repeat)) for repeat in selected]
    return are_nearly_equal(gradients) and (
        formula.method.variance
        or are_nearly_equal([formula.compute(repeat).saliency for repeat in selected])
    )


def _notice(plan: Plan, target: Target, size: float, names: Sequence[str]) -> str:
    return (
        f"{target.name}: the map at {', '.join(names)} is empty, because the evidence is no larger than "
        f"rounding errors; {_hint(plan, size)}"
    )


def _hint(plan: Plan, size: float) -> str:
    score = plan.score
    is_probability = score.probability or plan.explained_tensor == score.output != score.logits
    if is_probability and size > SATURATED:
        hint = (
            "name the tensor before the activation with --output"
            if score.probability
            else "explain the logit instead (--score logit)"
        )
        return f"the probability is saturated at {size:.6g}: {hint}"
    return "choose another layer (`onnxcam layers`), target or method"
