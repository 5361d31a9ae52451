"""What a formula may take: quantities of the clean image, and of the samples.

A quantity is an expression over the tensors of a model. The names of its parameters say what it is written
from (see `SOURCES`), and it is written into the graph only if a method takes it. The expression is NumPy on
graph Values, in the layout of the model; the formula gets the result with the channels first, in float64.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from onnxcam.methods.place import IMAGE
from onnxcam.registry import Registry

SOURCES = {
    "bias": "what is added at the tensor, for methods at several tensors",
    "cells": "(1, h, w), the number of each cell among the tokens, for methods at attention matrices",
    "readers": "(1, T), the part of each token in what the score reads, for methods at attention matrices",
    "activation": "the values of the layer, or of the image for a method at the image",
    "gradient": "the gradient of the target's score at the layer, or at the image",
    "image": "the image tensor",
    "image_gradient": "the gradient of the target's score at the image",
    "score": "(N,), the score of the target",
    "probability": "(N,), the probability of the target",
    "reference_score": "(N,), the score of the target on the image that the rules compare with",
    "tail_gradient": "the gradient there of the score that the model's tail gives for the output of the block",
    "absorbed": "(N,), what rules say that goes to no input: a part of the target's score",
    "vjp": "a function of a gradient and a cotangent: their product with the second derivative",
}
"""What expressions are written from. Any other parameter is an input that the sampler feeds for its samples."""

Reduction = Literal["", "mean", "stack"]


@dataclass(frozen=True)
class Quantity:
    """An expression over the tensors of a model.

    reduction: "" for a quantity of the clean image; "mean" over the samples, which is summed in the graph; or
        "stack" for one number per sample.
    degree: the power of the cotangent that the quantity is proportional to; None if it is not.
    rules: the table of gradient rules of its gradients; "" for that of the method.
    """

    name: str
    expression: Callable[..., Any]
    meaning: str
    reduction: Reduction = ""
    degree: int | None = 0
    rules: str = ""

    @cached_property
    def sources(self) -> frozenset[str]:
        """What the expression is written from."""
        return frozenset(inspect.signature(self.expression).parameters)

    @property
    def is_sampled(self) -> bool:
        """Whether the quantity is computed from samples instead of from the clean image."""
        return self.reduction != ""

    def is_summed(self, batch: int | None) -> bool:
        """Whether the graph adds it up over the samples of a run, for a model of this fixed batch (None: any).
        What fills up a fixed batch must add nothing: its cotangents are 0, but other values are not.
        """
        return self.reduction == "mean" and (batch in (None, 1) or bool(self.degree))

    @property
    def place(self) -> Literal["layer", "image", ""]:
        """Which cells it has: those of the layer, those of the image, or none."""
        if self.sources & {"activation", "gradient", "tail_gradient", "vjp"}:
            return "layer"
        return "image" if self.sources & {"image", "image_gradient"} else ""

    @property
    def needs_gradient(self) -> bool:
        """Whether a gradient is written into the graph for it."""
        gradients = {"gradient", "image_gradient", "tail_gradient", "vjp"}
        return bool(self.sources & {*gradients, "absorbed", "reference_score"})

    @property
    def needs_target(self) -> bool:
        """Whether it depends on the target."""
        return self.needs_gradient or bool(self.sources & {"score", "probability"})

    @property
    def sample_inputs(self) -> tuple[str, ...]:
        """What the sampler feeds for its samples."""
        return tuple(sorted(self.sources - SOURCES.keys()))


TARGET = "target"  # what notices about the scores are about
MEAN = "mean_"  # before the name of a clean quantity: its mean over the samples


def mean_of(name: str) -> str:
    """The quantity that is the mean of a clean quantity over the samples."""
    return "d1" if name == "gradient" else f"{MEAN}{name}"


def _derive(name: str) -> Quantity | None:
    """The mean over the samples of a clean quantity, which is computed from the same expression."""
    clean = QUANTITIES[name.removeprefix(MEAN)] if name.startswith(MEAN) else None
    if clean is None or clean.is_sampled:
        return None
    meaning = f"the mean over the samples of {clean.meaning}"
    return replace(clean, name=name, meaning=meaning, reduction="mean")


QUANTITIES: Registry[Quantity] = Registry("quantity", _derive)
SAMPLE_SCORES = "sample_scores"  # what samplers, too, may ask for


def quantity(
    name: str,
    expression: Callable[..., Any],
    meaning: str,
    reduction: Reduction = "",
    degree: int | None = 0,
    rules: str = "",
) -> Quantity:
    """Add a quantity to the table, so that formulas can take it. ValueError for another reduction."""
    if reduction not in get_args(Reduction):
        raise ValueError(
            f"quantity {name}: reduction={reduction!r}; expected mean or stack over samples, or nothing for "
            "the clean image"
        )
    return QUANTITIES.add(name, Quantity(name, expression, meaning, reduction, degree, rules))


def differentiates_image(names: Iterable[str], at: str) -> bool:
    """Whether one of these quantities, taken `at` a place, needs a gradient at the image."""
    quantities = [QUANTITIES[name] for name in names]
    return any("image_gradient" in quantity.sources for quantity in quantities) or (
        at == IMAGE and any(quantity.needs_gradient for quantity in quantities)
    )


def notice_sources(names: Iterable[str]) -> set[str]:
    """What these quantities are written from, and TARGET if they depend on the target: the subjects of notices
    that concern them.
    """
    quantities = [QUANTITIES[name] for name in names]
    sources = {source for quantity in quantities for source in quantity.sources}
    return sources | {TARGET} if any(quantity.needs_target for quantity in quantities) else sources


def _hessian_product(vjp: Any, gradient: Any, activation: Any) -> Any:
    return vjp(gradient, activation)


def _mean_of_heads(activation: Any) -> Any:
    return np.mean(activation, axis=1)


def _relevance_of_heads(activation: Any, gradient: Any) -> Any:
    return np.mean(np.maximum(activation * gradient, 0.0), axis=1)


def _attention_gained(tail_gradient: Any) -> Any:
    return np.mean(np.maximum(tail_gradient, 0.0), axis=(1, 2))


quantity("activation", lambda activation: activation, "A (N, C, h, w), the layer's values")
quantity("gradient", lambda gradient: gradient, "g (N, C, h, w), the score's gradient", degree=1)
quantity("image", lambda image: image, "x (N, C, H, W), the image tensor")
quantity("image_gradient", lambda image_gradient: image_gradient, "dS/dx (N, C, H, W)", degree=1)
quantity("score", lambda score: score, "S (N,), the target's score", degree=1)
quantity(
    "probability",
    lambda probability: probability,
    "(N,), the target's probability",
    degree=None,
)
# shares of the score, each rounded in proportion to itself: a small one is no rounding error
quantity("relevance", lambda gradient: gradient, "R (N, C, h, w), by such rules", degree=None)
quantity(
    "absorbed",
    lambda absorbed: absorbed,
    "(N,), the part of S that constants absorb, by rules",
    degree=1,
)
quantity("hvp", _hessian_product, "(N, C, h, w), the Hessian of the score times A", degree=1)
quantity(
    "guided_gradient",
    lambda image_gradient: image_gradient,
    "dS/dx (N, C, H, W) by guided backpropagation",
    degree=1,
    rules="guided",
)
quantity("bias_gradient", lambda gradient, bias: gradient * bias, "b g of a layer's bias", degree=1)

quantity("attention", _mean_of_heads, "A (N, T, T), the mean of the heads at an attention matrix")
quantity(
    "attention_relevance",
    _relevance_of_heads,
    "mean_h relu(A g) (N, T, T), at an attention matrix",
    degree=None,
)
quantity(
    "attention_gradient",
    _attention_gained,
    "the mean over heads and rows of relu(ds/dA) (N, T), s the score of the block",
    degree=None,
)
quantity("cells", lambda cells: cells, "(1, h, w), the number of each cell among the tokens")
quantity("readers", lambda readers: readers, "(1, T), the part of each token in what is read")

quantity("d1", lambda gradient: gradient, "D_1, the mean of g over the samples", "mean", 1)
quantity("d2", lambda gradient: np.square(gradient), "D_2, the mean of g^2", "mean", 2)
quantity("d3", lambda gradient: gradient * gradient * gradient, "D_3, the mean of g^3", "mean", 3)
quantity("mean_activation", lambda activation: activation, "the mean of A over the samples", "mean")
quantity(
    "gradient_step",
    lambda gradient, step: gradient * step,
    "the mean of g times the step of its sample",
    "mean",
    1,
)
quantity(
    "probability_mask",
    lambda probability, mask: np.reshape(probability, (-1, 1, 1, 1)) * mask,
    "the mean of a sample's mask times its probability",
    "mean",
    None,
)
quantity(
    "reference_score",
    lambda reference_score: reference_score,
    "S(b) (N,), the target's score on the image that rules compare with",
    "mean",
    1,
)
quantity(
    SAMPLE_SCORES, lambda score: score, "(N, n), the target's score on each sample", "stack", 1
)
quantity(
    "sample_probabilities",
    lambda probability: probability,
    "(N, n), the target's probability on each sample",
    "stack",
    None,
)
