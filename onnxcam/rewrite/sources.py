"""The Values that the expressions of quantities are written from: a row of `WRITE` for each name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from onnxcam.autodiff.backward import backward
from onnxcam.autodiff.rules.activation import sigmoid
from onnxcam.autodiff.tables import RULE_TABLES
from onnxcam.errors import BlockedError
from onnxcam.graph import anp
from onnxcam.graph.tracing import Builder, Value
from onnxcam.methods.quantities import SOURCES, Quantity
from onnxcam.rewrite.loss_scale import accumulation_dtype
from onnxcam.rewrite.sampled_inputs import add_sample_input
from onnxcam.specs import SEED, Score, gradient_at

PROBABILITIES = {"Softmax", "Sigmoid"}


@dataclass
class Sources:
    """What the expressions of a model's quantities are written from.

    image, explained: the names of the image input and of the tensor with the scores.
    rules: the table of gradient rules of the method; `table` replaces it, if it is not empty.
    constants: the constants of the places of a method, by tensor and name.
    vanishing: the layers at which a derivative of the gradient is zero everywhere, collected while writing.
    """

    build: Builder
    image: str
    explained: str
    score: Score
    rules: str
    table: str = ""
    constants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    vanishing: set[str] = field(default_factory=set)

    def arguments(self, quantity: Quantity, layer: str) -> dict[str, Any]:
        """The arguments of a quantity's expression at a layer."""
        sources = replace(self, table=quantity.rules)
        return {name: sources._argument(name, layer) for name in quantity.sources}

    def _argument(self, name: str, layer: str) -> Any:
        if name in self.constants.get(layer, {}):
            return self.build.constant(self.constants[layer][name])
        if name in SOURCES:
            return WRITE[name](self, layer)
        return add_sample_input(self.build, name)

    def require_seed(self) -> Value:
        """The cotangents of the scores; their input is added if the model does not have it yet."""
        if SEED in self.build.tensors:
            return self.build.value(SEED)
        score = self.build.value(self.explained)
        return self.build.input(SEED, accumulation_dtype(score.dtype), score.shape)

    def target_score(self) -> Value:
        """(N,): the sum of the scores times their cotangents."""
        seed = self.require_seed()
        return _sum_rows(seed * self.build.value(self.explained).astype(seed.dtype))

    def target_probability(self) -> Value:
        """(N,): the sum of the probabilities times the weights of the classes; for the evidence against a
        class, 1 minus its probability.
        """
        seed = self.require_seed()
        weighted = _sum_rows(seed * self._probabilities().astype(seed.dtype))
        return weighted - anp.minimum(_sum_rows(seed), 0.0)

    def _probabilities(self) -> Value:
        score, scores = self.score, self.build.value(self.explained)
        if score.probability or (self.explained == score.output and score.output_activation):
            return scores
        if score.output_activation in PROBABILITIES and score.output in self.build.tensors:
            return self.build.value(score.output)
        return sigmoid(scores) if score.classes == 1 else softmax(scores)

    def vjp(self, layer: str) -> Callable[[Value, Value], Value]:
        """A function that returns the product of a cotangent and the derivative of a gradient at the layer; 0
        where there is no derivative.
        """

        def product(gradient: Value, cotangent: Value) -> Value:
            seeds = {gradient.name: cotangent.astype(gradient.dtype)}
            try:
                derivatives = backward(
                    self.build, seeds, [layer], RULE_TABLES[self.table or self.rules]
                )
            except BlockedError:
                derivatives = {}
            if layer in derivatives:
                return derivatives[layer].astype(gradient.dtype)
            self.vanishing.add(layer)
            return gradient * 0.0

        return product


def _sum_rows(value: Value) -> Value:
    return anp.sum(value, axis=tuple(range(1, value.ndim))) if value.ndim > 1 else value


def softmax(scores: Value) -> Value:
    """Softmax over the second axis."""
    powers = anp.exp(scores - anp.max(scores, axis=1, keepdims=True))
    return powers / anp.sum(powers, axis=1, keepdims=True)


def _wide(value: Value) -> Value:
    return value.astype(accumulation_dtype(value.dtype))


WRITE: dict[str, Callable[[Sources, str], Any]] = {
    "activation": lambda sources, layer: _wide(sources.build.value(layer)),
    "gradient": lambda sources, layer: sources.build.value(gradient_at(layer, sources.table)),
    "image": lambda sources, _: sources.build.value(sources.image),
    "image_gradient": lambda sources, _: sources.build.value(
        gradient_at(sources.image, sources.table)
    ),
    "score": lambda sources, _: sources.target_score(),
    "probability": lambda sources, _: sources.target_probability(),
    "vjp": lambda sources, layer: sources.vjp(layer),
}
