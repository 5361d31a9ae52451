"""ONNX Runtime's fused activations: alone, after a bias, and as an attribute of another operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onnxcam.graph import anp
from onnxcam.graph.tracing import Value
from onnxcam.passes.decomposition import Outputs
from onnxcam.passes.ort.registry import decomposes

# Of GELU's approximation by tanh (Hendrycks and Gimpel 2016, arXiv:1606.08415)
TANH_SCALE, TANH_CUBIC = (2 / np.pi) ** 0.5, 0.044715


def gelu(x: Value) -> Value:
    """x Phi(x), where Phi is the distribution function of the normal distribution."""
    return x * (x.build.op("Erf", x / 2**0.5) + 1) * 0.5


def silu(x: Value, alpha: float = 1.0) -> Value:
    """x sigmoid(alpha x)."""
    return x * x.build.op("Sigmoid", x if alpha == 1 else x * alpha)


def fast_gelu(x: Value) -> Value:
    """Gelu by tanh."""
    return x * (gelu_tanh(x) + 1) * 0.5


def gelu_tanh(x: Value) -> Value:
    """tanh(sqrt(2 / pi) (x + 0.044715 x^3)), about 2 Phi(x) - 1."""
    return anp.tanh((x + x * x * x * TANH_CUBIC) * TANH_SCALE)


def _clip(x: Value, low: float, high: float) -> Value:
    if x.build.opset < 11:
        return x.build.op("Clip", x, min=low, max=high)
    return x.build.op("Clip", x, x.constant_like(low), x.constant_like(high))


def _operator(name: str, *attributes: str) -> Callable[..., Value]:
    return lambda x, *numbers: x.build.op(name, x, **dict(zip(attributes, numbers, strict=False)))


ACTIVATIONS: dict[
    str, Callable[..., Value]
] = {  # functions of x and of `activation_params`, in order
    "": lambda x: x,
    "Clip": _clip,
    "Elu": _operator("Elu", "alpha"),
    "Gelu": gelu,
    "HardSigmoid": _operator("HardSigmoid", "alpha", "beta"),
    "HardSwish": lambda x: x * x.build.op("HardSigmoid", x, alpha=1 / 6, beta=0.5),
    "LeakyRelu": _operator("LeakyRelu", "alpha"),
    "QuickGelu": silu,
    "Relu": _operator("Relu"),
    "Sigmoid": _operator("Sigmoid"),
    "Silu": silu,
    "Softplus": _operator("Softplus"),
    "Softsign": _operator("Softsign"),
    "Tanh": _operator("Tanh"),
    "ThresholdedRelu": _operator("ThresholdedRelu", "alpha"),
}


def activate(x: Value, activation: str, parameters: Sequence[float] = ()) -> Value | None:
    """x after the activation that an attribute names; None for an unknown name."""
    function = ACTIVATIONS.get(activation)
    return None if function is None else function(x, *(float(number) for number in parameters))


@decomposes("Gelu")
def _gelu(x: Value) -> Value:
    return gelu(x)


@decomposes("BiasGelu")
def _bias_gelu(a: Value, b: Value) -> Value:
    return gelu(a + b)


@decomposes("FastGelu")
def _fast_gelu(x: Value, bias: Value | None = None) -> Value:
    return fast_gelu(x if bias is None else x + bias)


@decomposes("GemmFastGelu")
def _gemm_fast_gelu(x: Value, w: Value, bias: Value | None = None) -> Value:
    y = anp.matmul(x, w)
    return fast_gelu(y if bias is None else y + bias)


@decomposes("QuickGelu")
def _quick_gelu(x: Value, *, alpha: float = 1.702) -> Value:
    return silu(x, alpha)


@decomposes("BiasSplitGelu")
def _bias_split_gelu(x: Value, bias: Value) -> Value:
    """The first half of the channels times the Gelu of the second half."""
    parts: dict[str, Any] = {"num_outputs": 2} if x.build.opset >= 18 else {}
    values, gates = x.build.ops("Split", x + bias, outputs=2, axis=x.ndim - 1, **parts)
    return values * gelu(gates)


@decomposes("BiasAdd")
def _bias_add(x: Value, bias: Value, skip: Value) -> Value:
    return x + bias + skip


@decomposes("BiasDropout")
def _bias_dropout(
    x: Value,
    bias: Value,
    residual: Value | None = None,
    ratio: Value | None = None,
    training: Value | None = None,
    *,
    seed: int = 0,
) -> Value | None:
    """Outside training, nothing is dropped."""
    del ratio, seed
    if training is not None and (training.constant is None or training.constant.any()):
        return None
    return x + bias if residual is None else x + bias + residual


@decomposes("BiasSoftmax")
def _bias_softmax(
    x: Value, bias: Value, *, axis: int = 1, is_inner_broadcast: int = 0
) -> Value | Outputs | None:
    """Only over the last axis. The bias has a shape that broadcasts by itself."""
    del is_inner_broadcast  # how ONNX Runtime broadcasts the bias
    last = x.ndim - 1
    return x.build.op("Softmax", x + bias, axis=last) if axis in (-1, last) else None
