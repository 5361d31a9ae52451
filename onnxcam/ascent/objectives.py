"""What is minimized: the negative of a score, or the distance to the activations of an image."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from onnxcam.arrays import FLOAT32, Array, Floats
from onnxcam.ascent.differentiable import Differentiable, differentiable
from onnxcam.ascent.opened_model import OpenedModel
from onnxcam.errors import NeedsOpsetError, RunError
from onnxcam.graph import anp
from onnxcam.graph.tracing import Builder
from onnxcam.model.load import upgrade_model
from onnxcam.model.model import Model

REFERENCE, DISTANCE = "onnxcam/compared", "onnxcam/distance"


@dataclass(frozen=True)
class Score:
    """The weighted sum of a tensor, with `weights` (N, …) for each of the N images."""

    source: Differentiable
    weights: Floats

    def __call__(self, x: Floats) -> tuple[Floats, Floats]:
        """See `Objective`. The gradient is divided by its length, so that penalties weigh the same for all
        models and at all times: that of mean x^2 is as long where the deviation of x is 0.5.
        """
        scores, slopes = self.with_gradient(x)
        slopes = self._escape(x, slopes)
        lengths = np.sqrt(np.sum(np.square(slopes), axis=(1, 2, 3), keepdims=True))
        pixels = x.shape[2] * x.shape[3]
        return scores, -slopes / np.where(lengths > 0, lengths, 1.0) / math.sqrt(pixels)

    def _escape(self, x: Floats, slopes: Floats) -> Floats:
        """The gradients, with that of a deconvolution for images of which no gradient arrives: a feature map
        whose rectifier is off in all cells.
        """
        off = ~slopes.any(axis=(1, 2, 3))
        if not off.any() or self.source.deconvolved is None:
            return slopes
        deconvolved = replace(self, source=self.source.deconvolved, weights=self.weights[off])
        escaping = slopes.copy()
        escaping[off] = deconvolved.with_gradient(x[off])[1]
        return escaping

    def with_gradient(self, x: Floats) -> tuple[Floats, Floats]:
        """(N,) and (N, C, H, W): the scores of images x, and their gradients."""
        pixels = self.source.opened.range
        values, slopes = self.source.gradients(pixels.to_tensor(x), self.weights)
        return self.scores(values), pixels.to_gradient(slopes)

    def scores(self, values: Array) -> Floats:
        """(N,): the scores of the N images, of what the tensor is."""
        rows = np.asarray(values, np.float64).reshape(len(self.weights), -1)
        return np.sum(rows * self.weights.reshape(len(rows), -1), axis=1)

    def of_tensors(self, tensors: Array) -> Floats:
        """(N,): the scores of tensors as the model itself takes them."""
        dtype = self.source.opened.range.tensor_dtype
        return self.scores(self.source.values(tensors.astype(dtype)))


@dataclass(frozen=True)
class Distance:
    """||f(x) - f(x0)||^2 / ||f(x0)||^2 (Mahendran and Vedaldi 2015, eq. 4) at a layer f, of which `activation`
    (1, …) is f(x0).
    """

    source: Differentiable
    activation: Floats

    @property
    def square(self) -> float:
        """||f(x0)||^2."""
        return float(np.sum(np.square(self.activation, dtype=np.float64)))

    def __call__(self, x: Floats) -> tuple[Floats, Floats]:
        """See `Objective`."""
        pixels = self.source.opened.range
        seeds = np.full((len(x), 1), 1 / self.square)
        compared = {REFERENCE: np.repeat(self.activation, len(x), axis=0)}
        distances, slopes = self.source.gradients(pixels.to_tensor(x), seeds, compared)
        ratios = np.asarray(distances, np.float64).reshape(-1) / self.square
        return ratios, pixels.to_gradient(slopes)

    def of_tensors(self, tensors: Array) -> Floats:
        """(N,): the relative errors of tensors as the model itself takes them."""
        dtype = self.source.opened.range.tensor_dtype
        compared = {REFERENCE: np.repeat(self.activation, len(tensors), axis=0)}
        distances = self.source.values(tensors.astype(dtype), compared)
        return np.sqrt(np.asarray(distances, np.float64).reshape(-1) / self.square)


def open_distance(opened: OpenedModel, layer: str, tensor: Array) -> Distance:
    """The distance at a layer to the activations of a tensor (1, …), as the model takes it. RunError if these
    are all 0 or not finite.
    """
    source = differentiable(opened, _with_distance(opened.model, layer), DISTANCE, [layer])
    image = tensor.astype(opened.range.tensor_dtype)
    activation = np.asarray(source.tensor(layer, image), np.float32)
    distance = Distance(source, activation)
    if not 0 < distance.square < math.inf:
        raise RunError(
            f"{opened.model.name}: the activations of the image at {layer} are all 0 or not finite, so no "
            "image can be compared with them; choose another layer"
        )
    return distance


def _with_distance(model: Model, layer: str) -> Model:
    """The model with the squared distance (N, 1) of a layer to an input REFERENCE, in float32. The opset is
    upgraded if that needs it.
    """
    while True:
        copy = model.copy()
        try:
            build = Builder(copy.graph)
            values = build.value(layer).astype(FLOAT32)
            compared = build.input(REFERENCE, FLOAT32, values.shape)
            axes = tuple(range(1, values.ndim))
            squares = anp.sum(anp.square(values - compared), axis=axes)
            build.output(anp.reshape(squares, (-1, 1)), DISTANCE)
            if layer not in {tensor.name for tensor in copy.graph.outputs}:
                copy.graph.outputs.append(build.value(layer).tensor)
        except NeedsOpsetError as need:
            model = upgrade_model(model, need.opset)
            continue
        return copy
