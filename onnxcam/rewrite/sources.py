"""The Values that the expressions of quantities are written from: a row of `WRITE` for each name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onnxcam.autodiff.backward import backward
from onnxcam.autodiff.reference import REFERENCE_SCORE
from onnxcam.autodiff.rules.activation import sigmoid
from onnxcam.autodiff.tables import RULE_TABLES
from onnxcam.errors import BlockedError, ModelError
from onnxcam.graph import anp
from onnxcam.graph.tracing import Builder, Value
from onnxcam.methods.place import Place
from onnxcam.methods.quantities import SOURCES, Quantity
from onnxcam.rewrite.loss_scale import accumulation_dtype
from onnxcam.rewrite.per_image import absorbed_at
from onnxcam.rewrite.sampled_inputs import add_sample_input
from onnxcam.specs import SEED, Score, gradient_at

TAIL = "tail"  # the name of backward passes from the scores of blocks
PROBABILITIES = {"Softmax", "Sigmoid"}


@dataclass
class Sources:
    """What the expressions of a model's quantities are written from.

    image, explained: the names of the image input and of the tensor with the scores.
    rules: the table of gradient rules of the method; `table` replaces it, if it is not empty.
    places: where the quantities are taken, by tensor.
    vanishing: the layers at which a derivative of the gradient is zero everywhere, collected while writing.
    """

    build: Builder
    image: str
    explained: str
    score: Score
    rules: str
    table: str = ""
    places: Mapping[str, Place] = field(default_factory=dict)
    vanishing: set[str] = field(default_factory=set)

    def arguments(self, quantity: Quantity, layer: str) -> dict[str, Any]:
        """The arguments of a quantity's expression at a layer."""
        sources = replace(self, table=quantity.rules)
        return {name: sources._argument(name, layer) for name in quantity.sources}

    def _argument(self, name: str, layer: str) -> Any:
        constants = self.places[layer].constants
        if name in constants:
            return self.build.constant(constants[name])
        if name in SOURCES:
            return WRITE[name](self, layer)
        return add_sample_input(self.build, name)

    def arranged(self, value: Value, layer: str) -> Value:
        """The values of a tensor, or a gradient of them, as its place arranges them."""
        arranged: Value = self.places[layer].arrange(value)
        return arranged

    def require_seed(self) -> Value:
        """The cotangents of the scores; their input is added if the model does not have it yet."""
        if SEED in self.build.tensors:
            return self.build.value(SEED)
        score = self.build.value(self.explained)
        return self.build.input(SEED, accumulation_dtype(score.dtype), score.shape)

    def for_each_image(self, constant: Value) -> Value:
        """A constant (1, ...) repeated for every image, as all outputs have a row for each."""
        seed = self.require_seed()
        count = anp.take(self.build.shape_of(seed), np.array([0]), axis=0)
        sizes = self.build.constant(np.array(constant.shape[1:], np.int64))
        shape = (seed.shape[0], *constant.shape[1:])
        return self.build.op("Expand", constant, anp.concatenate([count, sizes]), shape=shape)

    def target_score(self) -> Value:
        """(N,): the sum of the scores times their cotangents."""
        return self._weighted(self.explained)

    def reference_score(self) -> Value:
        """(N,): the same on the reference. ModelError for rules that compare with none."""
        if REFERENCE_SCORE not in self.build.tensors:
            raise ModelError(
                f"the rules {self.table or self.rules!r} compare with no reference, so there is no "
                "reference_score; take `score`, or name rules that compare with one"
            )
        return self._weighted(REFERENCE_SCORE)

    def _weighted(self, scores: str) -> Value:
        seed = self.require_seed()
        return _sum_rows(seed * self.build.value(scores).astype(seed.dtype))

    def target_probability(self) -> Value:
        """(N,): the sum of the probabilities times the weights of the classes; for the evidence against a
        class, 1 minus its probability.
        """
        seed = self._one_row_per_image(self.require_seed())
        weighted = _sum_rows(seed * self._probabilities().astype(seed.dtype))
        return weighted - anp.minimum(_sum_rows(seed), 0.0)

    def _probabilities(self) -> Value:
        """(N, classes)."""
        score, explained = self.score, self.build.value(self.explained)
        scores = self._one_row_per_image(explained)
        if score.probability or (self.explained == score.output and score.output_activation):
            return scores
        if score.output_activation in PROBABILITIES and score.output in self.build.tensors:
            return self._one_row_per_image(self.build.value(score.output))
        return sigmoid(scores) if score.classes == 1 else softmax(scores)

    def _one_row_per_image(self, value: Value) -> Value:
        """(N, classes): logits and probabilities may have further axes of size 1, in different places."""
        return value if value.ndim == 2 else anp.reshape(value, (-1, self.score.classes))

    def absorbed(self) -> Value:
        """(N,): what rules say that goes to no input; 0 for tables of which none does."""
        name = absorbed_at(self.table)
        if name in self.build.tensors:
            return self.build.value(name)
        return self.target_score() * 0.0

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
    "activation": lambda sources, layer: _wide(sources.arranged(sources.build.value(layer), layer)),
    "gradient": lambda sources, layer: sources.arranged(
        sources.build.value(gradient_at(layer, sources.table)), layer
    ),
    "image": lambda sources, _: sources.build.value(sources.image),
    "image_gradient": lambda sources, _: sources.build.value(
        gradient_at(sources.image, sources.table)
    ),
    "score": lambda sources, _: sources.target_score(),
    "probability": lambda sources, _: sources.target_probability(),
    "reference_score": lambda sources, _: sources.reference_score(),
    "tail_gradient": lambda sources, layer: sources.arranged(
        sources.build.value(gradient_at(layer, TAIL)), layer
    ),
    "absorbed": lambda sources, _: sources.absorbed(),
    "vjp": lambda sources, layer: sources.vjp(layer),
}
