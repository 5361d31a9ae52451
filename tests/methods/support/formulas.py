"""Formulas of methods, called with the quantities that they take."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onnxcam.arrays import Floats, Saliency
from onnxcam.methods import METHODS, QUANTITIES, SAMPLERS, Method, Quantity
from onnxcam.methods.method import positional
from onnxcam.methods.place import IMAGE
from onnxcam.methods.postprocess import join_channels
from onnxcam.specs import Layer

SUBSETS = SAMPLERS["subsets"].settings["samples"].default
NAMED: dict[
    str, Callable[[Floats], Floats]
] = {  # what is no quantity, for an image of (N, C, H, W)
    "counted": np.ones_like,
    "baseline": lambda image: 0.25 * image,
    "baseline_score": lambda image: np.zeros(len(image)),
    "noisy_score": lambda image: np.ones(len(image)),
    "grid": lambda image: np.zeros_like(image[:, 0]),
    "projection": lambda image: np.tile(
        np.sin(np.arange(3 * SUBSETS)).reshape(3, -1) / SUBSETS, (len(image), 1, 1)
    ),
    "segment_numbers": lambda image: np.arange(image[:, 0].size).reshape(image[:, 0].shape) % 3.0,
    "class_count": lambda image: np.full((len(image), 1), 5.0),
    "is_contrast": lambda image: np.arange(len(image))[:, None] % 2.0,
    "window_rows": lambda image: _windows(image, 2),
    "window_columns": lambda image: _windows(image, 3),
    "inverse_probability": lambda image: np.full((len(image), 1, 1), 2.0),
    "unchanged_score": lambda image: np.sum(image, axis=(1, 2, 3)),
    "selected": lambda image: (
        (np.arange(image[:, :, 0, 0].size) % 4 != 1).reshape(image.shape[:2]) * 1.0
    ),
}

DENSE: dict[str, dict[str, Any]] = {"fem": {"threshold": 1.0}}
"""Settings of methods that mark few cells, with which they mark some of the few cells of a test."""


def _windows(image: Floats, axis: int) -> Floats:
    """(N, windows, pixels): as many windows as pixels; two of them contain the second pixel."""
    shares = np.eye(image.shape[axis])
    shares[:2, 1:2] = 0.5
    return np.tile(shares, (len(image), 1, 1))


# quantities at an attention matrix, among as many tokens as an image has cells
MATRICES = {"attention", "attention_relevance", "attention_gradient"}


def feed(shape: tuple[int, ...], seed: int = 0) -> dict[str, Floats]:
    """All that a formula may take: activations and gradients of both signs, and zeros. The sum over a feature
    map is not negative, as after the ReLU of the papers' layers.
    """
    draw = np.random.default_rng([seed, *shape])
    samples = draw.normal(size=(4, *shape)) * (draw.random((4, *shape)) > 0.2)
    samples[:, :, 0, 0, 0] = 0.0
    activations = draw.normal(size=(4, *shape)) * (draw.random((4, *shape)) > 0.3)
    activations *= np.where(activations.sum(axis=(3, 4), keepdims=True) < 0, -1.0, 1.0)
    return quantities_of(activations, samples)


def quantities_of(activations: Floats, gradients: Floats) -> dict[str, Floats]:
    """All that a formula may take, of samples (n, N, C, h, w) of the activation and the gradient: what the
    expressions compute from them. The image and its gradient have the same numbers.
    """
    sources = [_sources(*pair) for pair in zip(activations, gradients, strict=True)]
    matrices = [
        _sources(_of_pairs(np.abs(activation)), _of_pairs(gradient))
        for activation, gradient in zip(activations, gradients, strict=True)
    ]
    cells = activations.shape[-2] * activations.shape[-1]
    quantities = {
        name: _compute(row, matrices if name in MATRICES else sources, cells)
        for name, row in QUANTITIES.items()
    }
    named = {name: value(quantities["image"]) for name, value in NAMED.items()}
    return quantities | named


def _sources(activation: Floats, gradient: Floats) -> dict[str, Any]:
    """What expressions are written from, for one sample of N images."""
    score = np.sum(gradient, axis=(1, 2, 3))
    probability = 1 / (1 + np.exp(-np.clip(score / 10, -9.0, 9.0)))
    grid = activation.shape[2:]
    cells = np.arange(float(np.prod(grid)))
    return {
        "activation": activation,
        "gradient": gradient,
        "image": activation,
        "image_gradient": gradient,
        "score": score,
        "probability": probability,
        "absorbed": 0.1 * score,
        "reference_score": 0.2 * score,
        "bias": np.linspace(-1.0, 1.0, activation.shape[1]).reshape(1, -1, 1, 1),
        "tail_gradient": gradient,
        "vjp": lambda cotangent, vector: cotangent * vector,
        "cells": np.broadcast_to(cells.reshape(grid), (len(activation), *grid)),
        "readers": np.broadcast_to((cells + 1) / np.sum(cells + 1), (len(activation), cells.size)),
    }


def _of_pairs(values: Floats) -> Floats:
    """(N, C, T, T) of (N, C, h, w): for every two of the T cells the product of their values."""
    tokens = values.reshape(*values.shape[:2], -1)
    return np.einsum("nci,ncj->ncij", tokens, tokens)


def _compute(quantity: Quantity, sources: list[dict[str, Any]], cells: int) -> Floats:
    """The quantity; as many samples are stacked as there are cells."""

    def value(sample: dict[str, Any]) -> Floats:
        fed = dict.fromkeys(quantity.sample_inputs, np.clip(sample["activation"][:, :1], 0.0, 1.0))
        arguments = {**sample, **fed}
        result: Floats = quantity.expression(**{name: arguments[name] for name in quantity.sources})
        return result

    if quantity.reduction == "stack":
        return np.stack([value(sources[cell % len(sources)]) for cell in range(cells)], axis=1)
    if quantity.reduction == "mean":
        return np.mean([value(sample) for sample in sources], axis=0)
    return value(sources[0])


def run(name: str, quantities: Mapping[str, Floats], **settings: Any) -> Saliency:
    """The map (N, h, w)."""
    method = METHODS[name]
    result: Floats = method.formula(**arguments(name, quantities), **settings)
    return result if result.ndim == 3 else join_channels(result, method.channels)


def takes_tensors(method: Method, parameter: str) -> bool:
    """Whether the method takes this quantity at several tensors at once, as a tuple."""
    is_at_several = not method.has_layer and method.at != IMAGE
    return is_at_several and parameter in QUANTITIES and QUANTITIES[parameter].place == "layer"


def stacked(method: Method, numbers: Floats, shape: tuple[int, ...]) -> Floats:
    """Numbers (N, n) repeated until there are as many as the method has samples at a layer of this shape."""
    layer = Layer("", "", shape, 1, is_bottleneck=True)
    settings = {name: setting.default for name, setting in method.settings.items()}
    count = method.sampler.count(layer, settings) or numbers.shape[1]
    return np.ascontiguousarray(numbers[:, np.arange(count) % numbers.shape[1]])


def arguments(name: str, quantities: Mapping[str, Floats]) -> dict[str, Any]:
    """Those of the quantities that a formula takes. At several tensors: at these cells, and at their mean;
    or at two attention matrices.
    """
    method = METHODS[name]
    taken = {
        parameter: stacked(method, quantities[parameter], quantities["activation"].shape)
        if parameter in QUANTITIES and QUANTITIES[parameter].reduction == "stack"
        else quantities[parameter]
        for parameter in positional(method.formula)
    }
    return {
        parameter: (array, _second(parameter, array)) if takes_tensors(method, parameter) else array
        for parameter, array in taken.items()
    }


def _second(parameter: str, array: Floats) -> Floats:
    """A quantity at the second of two tensors."""
    if parameter in MATRICES:
        return array[..., ::-1]
    return np.mean(array, axis=(2, 3), keepdims=True)
