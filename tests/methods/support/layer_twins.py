"""The formulas of papers that change the backward pass, or need the biases of all layers: layer by layer, in
float64, over the layers of a `LayeredNet`.
"""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats
from tests.methods.support.image_twins import interpolated, total
from tests.support.layered_nets import (
    Activation,
    Conv,
    Layer,
    LayeredNet,
    Linear,
    MaxPool,
    Norm,
    one_hot,
)

NEAR = 1e-10  # a difference to the baseline that counts as none


def guided_backprop(net: LayeredNet, x: Floats, target: int) -> Floats:
    """Springenberg et al. 2014, section 3.4: at a rectifier, positive gradients of positive values pass."""
    values = net.values(x)
    g = one_hot(len(values[-1]), target)
    for layer, value in zip([*net.layers.values()][::-1], values[-2::-1], strict=True):
        if isinstance(layer, Activation):
            assert layer.curve == "relu", "the paper has rectifiers only"
            g = np.array(
                [a if v > 0 and a > 0 else 0.0 for a, v in zip(g.flat, value.flat, strict=True)]
            )
            g = g.reshape(value.shape)
        else:
            g = layer.vjp(value, g)
    return g


def deconvnet(net: LayeredNet, x: Floats, target: int) -> Floats:
    """Zeiler and Fergus 2014, section 2.1: a rectifier rectifies what comes back, whatever its value was."""
    values = net.values(x)
    g = one_hot(len(values[-1]), target)
    for layer, value in zip([*net.layers.values()][::-1], values[-2::-1], strict=True):
        if isinstance(layer, Activation):
            assert layer.curve == "relu", "the paper has rectifiers only"
            g = np.array([max(a, 0.0) for a in g.flat]).reshape(g.shape)
        else:
            g = layer.vjp(value, g)
    return g


def deep_lift(net: LayeredNet, x: Floats, target: int, baseline: Floats | float = 0.0) -> Floats:
    """Shrikumar et al. 2017, the Rescale rule (eq. 10 to 12): (x - baseline) times the multiplier."""
    values = net.values(x)
    references = net.values(np.zeros(x.shape) + baseline)
    multiplier = one_hot(len(values[-1]), target)
    steps = zip([*net.layers.values()], values, references, strict=False)
    for layer, value, reference in [*steps][::-1]:
        multiplier = _multiplier(layer, value, reference, multiplier)
    return (values[0] - references[0]) * multiplier


def _multiplier(layer: Layer, x: Floats, reference: Floats, m: Floats) -> Floats:
    """The multiplier at the input of a layer, of that at its output."""
    if isinstance(layer, Activation):
        after = layer.forward(x), layer.forward(reference)
        contributions: Floats = m * (after[0] - after[1])
    elif isinstance(layer, MaxPool):
        contributions = _pool_contributions(layer, x, reference, m)
    else:  # affine: the multiplier is the gradient
        return layer.vjp(x, m)
    gradient, result = layer.vjp(x, m), np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        difference = x[index] - reference[index]
        near = abs(difference) < NEAR
        result[index] = gradient[index] if near else contributions[index] / difference
    return result


def _pool_contributions(pool: MaxPool, x: Floats, reference: Floats, m: Floats) -> Floats:
    """With h = max(y, y'), m (h - y') goes to the maximum's place in the image, and m (y - h) to its place in
    the baseline.
    """
    y, y_reference = pool.forward(x), pool.forward(reference)
    contributions = np.zeros(x.shape)
    for index in np.ndindex(y.shape):
        highest = max(y[index], y_reference[index])
        contributions[pool.maximum(x, *index)] += m[index] * (highest - y_reference[index])
        contributions[pool.maximum(reference, *index)] += m[index] * (y[index] - highest)
    return contributions


def biases(net: LayeredNet) -> dict[str, Floats]:
    """The bias of every layer that has one; of a normalization, the value for a zero input."""
    return {
        name: layer.bias
        for name, layer in net.layers.items()
        if isinstance(layer, Conv | Norm | Linear) and layer.bias is not None
    }


def full_gradient_terms(
    net: LayeredNet, x: Floats, target: int
) -> tuple[Floats, dict[str, Floats]]:
    """Srinivas and Fleuret 2019, eq. 5: x * g_x, and b * g at the output of every layer with a bias."""
    gradients = dict(zip(["x", *net.layers], net.gradients(x, target), strict=True))
    at_biases: dict[str, Floats] = {
        name: gradients[name] * bias.reshape(-1, *[1] * (gradients[name].ndim - 1))
        for name, bias in biases(net).items()
    }
    return x * gradients["x"], at_biases


def full_grad(net: LayeredNet, x: Floats, target: int) -> Floats:
    """Eq. 8: psi of all terms that have cells, added up over channels and layers."""
    at_image, at_biases = full_gradient_terms(net, x, target)
    size = x.shape[1:]
    saliency = total(_psi(at_image, *size))
    for term in at_biases.values():
        if term.ndim == 3:
            saliency += total(_psi(term, *size))
    return saliency


def _psi(term: Floats, height: int, width: int) -> Floats:
    """The absolute values, from 0 to 1 over all channels of the image, brought up to its size."""
    magnitude = np.abs(term)
    magnitude = magnitude - magnitude.min()
    if magnitude.max() > 0:
        magnitude = magnitude / magnitude.max()
    return np.array([_enlarged(channel, height, width) for channel in magnitude])


def _enlarged(channel: Floats, height: int, width: int) -> Floats:
    """The channel at the size of the image, interpolated between the centers of its cells."""
    rows, columns = channel.shape
    pixels = np.zeros((height, width))
    for i, j in np.ndindex(height, width):
        y, x = (i + 0.5) * rows / height - 0.5, (j + 0.5) * columns / width - 0.5
        pixels[i, j] = interpolated(channel, y, x)
    return pixels
