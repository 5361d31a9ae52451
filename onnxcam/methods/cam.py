"""Class activation maps: formulas over the activation and the gradient of one layer, in float64.

A (N, C, h, w) is the activation, g = dS/dA the gradient, D_p the mean of g^p over noisy samples. Every
formula returns (N, h, w), without negative values. Sums over (i, j) run over the layer's cells. A formula
computes on arrays, and is written into a graph on Values.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np

from onnxcam.arrays import Floats, Maps, Saliency
from onnxcam.methods.method import method

CELLS: Any = (2, 3)


def weighted_sum(weight: Floats, activation: Maps) -> Saliency:
    """relu(sum_k w_k A_k), w (N, C, 1, 1)."""
    return np.maximum(np.einsum("nkhw,nkhw->nhw", weight, activation), 0.0)


def pooled_linear_head(gradient: Maps, *, is_constant: bool) -> str | None:
    """Why the gradient is not the class's row of a linear layer after global average pooling, divided by the
    number of cells; None if it is.
    """
    if not is_constant:
        reason = "depends on the image"
    elif np.allclose(
        gradient, gradient[:, :, :1, :1], rtol=1e-4, atol=1e-6 * float(np.abs(gradient).max())
    ):
        return None
    else:
        reason = "differs from cell to cell"
    return (
        "it needs global average pooling and a single linear layer after the layer, but the score's gradient "
        f"there {reason}; use grad-cam, or choose another layer"
    )


@method("cam", source="Zhou et al. 2016, eq. 2", check=pooled_linear_head)
def cam(activation: Maps, gradient: Maps) -> Saliency:
    """w_k is the class's row of the linear layer after global average pooling."""
    return weighted_sum(np.sum(gradient, axis=CELLS, keepdims=True), activation)


@method("grad-cam", source="Selvaraju et al. 2017, eq. 1 and 2")
def grad_cam(activation: Maps, gradient: Maps) -> Saliency:
    """w_k is the mean of the gradient over the cells."""
    return weighted_sum(np.mean(gradient, axis=CELLS, keepdims=True), activation)


@method("grad-cam++", source="Chattopadhay et al. 2018, eq. 19")
def grad_cam_plus_plus(activation: Maps, gradient: Maps) -> Saliency:
    """w_k sums the positive gradients, weighted by alpha = g^2 / (2 g^2 + (sum A) g^3)."""
    g = gradient
    return smooth_grad_cam_plus_plus(activation, g, g * g, g * g * g)


@method("smooth-grad-cam++", source="Omeiza et al. 2019, arXiv:1908.01224", sampler="gaussian")
def smooth_grad_cam_plus_plus(
    activation: Maps,
    d1: Maps,
    d2: Maps,
    d3: Maps,
    *,
    numerator: Annotated[
        Literal["d2", "d1"],
        "numerator of alpha: as in Grad-CAM++ (d2), or as printed in the paper (d1)",
    ] = "d2",
) -> Saliency:
    """Grad-CAM++ on derivatives averaged over noisy copies of the image.

    alpha = D_2 / (2 D_2 + (sum_ab A_ab) D_3), 0 where the denominator is not positive;
    w_k = sum_ij alpha relu(D_1); L = relu(sum_k w_k A_k).

    `numerator="d1"` is alpha as the paper prints it. Before global average pooling and a linear layer it
    cancels the magnitude of the weights, so it is not the default.

    The paper's layers end in ReLU, so that sum A is not negative. In other layers (LeakyReLU, linear
    bottlenecks) a negative sum would put a pole at g = -2 / sum A, and the few feature maps near the pole
    would dominate the result; so a negative sum is replaced by 0.
    """
    mass = np.maximum(np.sum(activation, axis=CELLS, keepdims=True), 0.0)
    alpha = positive_ratio(d1 if numerator == "d1" else d2, 2.0 * d2 + mass * d3)
    weight = np.sum(alpha * np.maximum(d1, 0.0), axis=CELLS, keepdims=True)
    return weighted_sum(weight, activation)


def positive_ratio(numerator: Floats, denominator: Floats) -> Floats:
    """numerator / denominator, 0 where the denominator is not positive: a finite number over infinity is 0."""
    return numerator / np.where(denominator > 0, denominator, np.inf)
