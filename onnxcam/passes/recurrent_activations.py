"""The activations of RNN, GRU and LSTM, by the names, factors and defaults that ONNX Runtime reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value

Function: TypeAlias = Callable[[Value], Value]

PLAIN = {
    name.lower(): name for name in ("Relu", "Tanh", "Sigmoid", "Softsign", "Softplus")
}  # without factors
WITH_ALPHA = {
    "leakyrelu": ("LeakyRelu", 0.01),
    "thresholdedrelu": ("ThresholdedRelu", 0.0),
    "elu": ("Elu", 1.0),
}
OF_C = 2  # the slot of the activation of c
WITH_BOTH = {"affine": (0.0, 0.0), "scaledtanh": (0.0, 0.0), "hardsigmoid": (0.2, 0.5)}


def activation_functions(
    attributes: Mapping[str, Any], defaults: Sequence[str], directions: int
) -> list[list[Function]]:
    """The activations of each direction, by the attributes `activations`, `activation_alpha`, `activation_beta`
    and `clip` of a node; `defaults` are the names in a direction if it has none. The factors are consumed in
    the order of the functions that take any. ONNX Runtime does not clip c of an LSTM, the input
    of the third one.
    """
    alphas, betas = (iter(attributes.get(f"activation_{name}") or ()) for name in ("alpha", "beta"))
    names = attributes.get("activations") or [*defaults] * directions
    count, clip = len(defaults), attributes.get("clip")
    if len(names) != count * directions:
        raise ModelError(
            f"a recurrent operator has {len(names)} activations, expected {count * directions}; export the "
            "model again"
        )
    functions = [_function(name, alphas, betas) for name in names]
    if clip:
        functions = [
            function if slot % count == OF_C else partial(_clipped, function, clip)
            for slot, function in enumerate(functions)
        ]
    return [functions[start : start + count] for start in range(0, len(functions), count)]


def _clipped(function: Function, bound: float, x: Value) -> Value:
    return function(anp.clip(x, -bound, bound))


def _function(name: str, alphas: Iterator[float], betas: Iterator[float]) -> Function:
    key = name.lower()
    if key in PLAIN:
        return lambda x: x.build.op(PLAIN[key], x)
    if key in WITH_ALPHA:
        operator, default = WITH_ALPHA[key]
        alpha = next(alphas, default)
        return lambda x: x.build.op(operator, x, alpha=alpha)
    if key not in WITH_BOTH:
        raise ModelError(
            f"the activation {name!r} of a recurrent operator is unknown; export the model again"
        )
    default_alpha, default_beta = WITH_BOTH[key]
    alpha, beta = next(alphas, default_alpha), next(betas, default_beta)
    if key == "affine":
        return lambda x: alpha * x + beta
    if key == "scaledtanh":
        return lambda x: alpha * anp.tanh(beta * x)
    return lambda x: x.build.op("HardSigmoid", x, alpha=alpha, beta=beta)
