"""Which maps are only rounding errors. A file sets them to 0, so that they are not scaled up and drawn: those
of which `explain.evidence` can tell without another pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnxcam.arrays import Shape
from onnxcam.embedding.maps import LayerQuantities
from onnxcam.explain.formula import BoundFormula
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value
from onnxcam.methods.quantities import QUANTITIES
from onnxcam.methods.rounding import UNSURE
from onnxcam.specs import Plan


@dataclass(frozen=True)
class RoundingRule:
    """How rounding errors are told from evidence.

    `epsilon`: the machine epsilon of the coarsest dtype of a layer. `saturates`: whether a probability is
    explained whose derivative is lost where it is rounded to 1.
    """

    epsilon: float
    saturates: bool


def rounding_rule(plan: Plan, formula: BoundFormula) -> RoundingRule:
    """The rule for a plan and a method."""
    score = plan.score
    is_softmax = score.output_activation == "Softmax" and score.exact_activation
    is_explained = plan.explained_tensor == score.output != score.logits
    is_clean = not formula.method.sampler.varies
    return RoundingRule(plan.epsilon, is_softmax and is_explained and is_clean)


def write_evidence(
    rule: RoundingRule, layers: Sequence[LayerQuantities], weights: Value, scores: Value
) -> list[Value] | None:
    """For each layer (N, 1, 1) bool: whether its values times their gradients exceed the rounding errors of the
    target's score, given the `weights` of the `scores` (N, classes). None for methods without a gradient.
    """
    effects = [_effect(layer) for layer in layers]
    known = [effect for effect in effects if effect is not None]
    if len(known) < len(layers):
        return None
    size = anp.sum(anp.abs(weights * scores), axis=1)
    limit = size * (UNSURE * rule.epsilon)
    evidence = [effect > limit for effect in known]
    if rule.saturates:
        classes = anp.sum(anp.abs(anp.sign(weights)), axis=1)
        below_one = (size < 1 - rule.epsilon) | (classes > 1.5)
        evidence = [has_effect & below_one for has_effect in evidence]
    return [anp.expand_dims(has_evidence, (1, 2)) for has_evidence in evidence]


def _effect(layer: LayerQuantities) -> Value | None:
    """(N,): sum |A g| of a layer's values and gradients; None if one of them is not known."""
    activation = layer.values.get("activation")
    if activation is None:
        return None
    gradient = _of_degree(1, layer.values, activation.shape)
    if gradient is None:
        square = _of_degree(2, layer.values, activation.shape)
        if square is None:
            return None
        gradient = anp.sqrt(anp.maximum(square, 0.0))
        gradient = gradient if layer.unit is None else gradient * layer.unit
    axes = tuple(range(1, activation.ndim))
    return anp.sum(anp.abs(activation * gradient), axis=axes)


def _of_degree(degree: int, values: Mapping[str, Value], shape: Shape) -> Value | None:
    """The first quantity of all values of a layer that is proportional to this power of the cotangent; of the
    second power, only that of the gradient itself.
    """
    for name, value in values.items():
        row = QUANTITIES[name]
        is_gradient = degree == 1 or row.sources == {"gradient"}
        if row.degree == degree and is_gradient and value.shape[1:] == shape[1:]:
            return value
    return None
