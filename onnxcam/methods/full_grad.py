"""FullGrad: the gradient at the image and at every bias of the model, which add up to the score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onnxcam.arrays import Floats, Maps, Saliency
from onnxcam.methods.completeness import gap_to_score
from onnxcam.methods.method import method
from onnxcam.methods.place import ModelView, Place, place
from onnxcam.methods.postprocess import fixed_size, resize_bilinear

AXES: Any = (1, 2, 3)
Values = Callable[[Any], Any]


@place("biases")
def biases(model: ModelView) -> list[Place]:
    """The tensors to which a constant is added, and the constant as `bias`."""
    pairs = ((node.outputs[0], _bias(node, model.constant_values)) for node in model.nodes)
    return [
        Place(tensor.name, _channel_axis(tensor, bias), {"bias": np.asarray(bias, np.float32)})
        for tensor, bias in pairs
        if bias is not None and np.isfinite(bias).all() and np.any(bias)
    ]


def _channel_axis(tensor: Any, bias: Floats) -> int:
    """The only axis along which the bias varies; else the second."""
    rank = len(tensor.shape or ())
    axes = [axis + rank - np.ndim(bias) for axis, size in enumerate(np.shape(bias)) if size > 1]
    return axes[0] if len(axes) == 1 and axes[0] > 0 else 1


def _bias(node: Any, constant_values: Values) -> Floats | None:
    """What a node adds to its result, in a shape that broadcasts to it; None if that is not a constant."""
    read = BIASES.get(node.op)
    if read is None:
        return None
    constants = [constant_values(tensor) for tensor in node.inputs]
    return read(node, [*constants, None])


def _of_convolution(node: Any, constants: Sequence[Any]) -> Floats | None:
    bias = constants[2]
    return None if bias is None else _along_channels(bias, node)


def _of_matrix_product(node: Any, constants: Sequence[Any]) -> Floats | None:
    bias = constants[2]
    return None if bias is None else node.attrs.get("beta", 1.0) * bias


def _of_batch_normalization(node: Any, constants: Sequence[Any]) -> Floats | None:
    """beta - gamma mu / sigma: what comes out for an input of zeros."""
    if any(values is None for values in constants[1:5]):
        return None
    gamma, beta, mean, variance = (np.asarray(values, np.float64) for values in constants[1:5])
    sigma = np.sqrt(variance + node.attrs.get("epsilon", 1e-5))
    return _along_channels(beta - gamma * mean / sigma, node)


def _of_layer_normalization(_: Any, constants: Sequence[Any]) -> Floats | None:
    bias: Floats | None = constants[2]
    return bias


def _of_sum(_: Any, constants: Sequence[Any]) -> Floats | None:
    return next((values for values in constants if values is not None), None)


def _of_difference(_: Any, constants: Sequence[Any]) -> Floats | None:
    minuend, subtrahend = constants[:2]
    return minuend if subtrahend is None else -subtrahend


def _along_channels(bias: Floats, node: Any) -> Floats:
    """A bias of one number per channel, for a tensor with the channels second."""
    return np.reshape(bias, (1, -1, *[1] * (len(node.outputs[0].shape) - 2)))


BIASES: dict[str, Callable[[Any, Sequence[Any]], Floats | None]] = {
    "Conv": _of_convolution,
    "ConvTranspose": _of_convolution,
    "Gemm": _of_matrix_product,
    "BatchNormalization": _of_batch_normalization,
    "InstanceNormalization": _of_convolution,
    "GroupNormalization": _of_convolution,
    "LayerNormalization": _of_layer_normalization,
    "Add": _of_sum,
    "Sum": _of_sum,
    "Sub": _of_difference,
}


def score_gap(
    image: Maps, image_gradient: Maps, bias_gradient: Sequence[Floats], score: Floats
) -> dict[str, Floats]:
    """How far x g_x and all b g are from adding up to the score (eq. 5), as a fraction of it."""
    count = len(score)
    terms = [image * image_gradient, *bias_gradient]
    total = sum(np.sum(np.reshape(term, (count, -1)), axis=1) for term in terms)
    return gap_to_score(np.reshape(total, (count, 1)), score)


@method(
    "full-grad",
    source="Srinivas and Fleuret 2019, eq. 8",
    at="biases",
    report=score_gap,
    remedy="functions other than ReLU leave a gap: compare the map with that of integrated-gradients",
)
def full_grad(image: Maps, image_gradient: Maps, bias_gradient: Sequence[Floats]) -> Saliency:
    """The gradients at the image and at all biases of layers with cells, brought up to the image.

    psi(x g_x) + sum_l psi(b_l g_l), summed over the channels (N, H, W), where psi scales the absolute values of
    a layer from 0 to 1, and enlarges them. Without psi, and with the biases of layers without cells, the terms
    add up to the score of a piecewise linear model (eq. 5); how far they are from it is reported as
    `completeness_gap`.
    """
    height, width = (fixed_size(image, axis) for axis in (2, 3))
    saliency = _scaled(image * image_gradient)
    for term in (term for term in bias_gradient if _has_cells(term, image)):
        saliency = saliency + resize_bilinear(_scaled(term), height, width)
    return saliency


def _has_cells(term: Floats, image: Maps) -> bool:
    """Whether a term has a grid: not that of a linear layer, nor of attention in windows, whose windows stand
    beside the images.
    """
    return term.ndim == 4 and term.shape[0] == image.shape[0] and term.shape[2:] != (1, 1)


def _scaled(term: Maps) -> Saliency:
    """(N, h, w): the absolute values, from 0 to 1 over all channels, summed over the channels."""
    magnitude = np.abs(term)
    magnitude = magnitude - np.min(magnitude, axis=AXES, keepdims=True)
    largest = np.max(magnitude, axis=AXES, keepdims=True)
    return np.sum(magnitude / np.where(largest > 0, largest, 1.0), axis=1)
