"""The activations of one layer, the scores, and the gradient of a target's score there, for many images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from onnxcam.arrays import Floats, Images, Maps, Scores
from onnxcam.errors import RunError, SettingError
from onnxcam.explain import pipeline
from onnxcam.explain.arguments import targets_of
from onnxcam.explain.block import Block
from onnxcam.explain.explainer import Explainer
from onnxcam.explain.explanation import ExplainedImage
from onnxcam.explain.inputs import ImageSource, as_sources, input_loaders
from onnxcam.explain.pipeline import ErrorCallback
from onnxcam.explain.run import ProgressCallback, no_progress
from onnxcam.methods import METHODS
from onnxcam.specs import AUTO, Layer
from onnxcam.targets.classes import DEFAULT_TARGET, Spec
from onnxcam.targets.target import Target

OF_MAPS = ("channels", "region", "fuse", "top_channels")  # arguments that only change maps


class ImageActivations(NamedTuple):
    """What a layer computes for one image.

    activation: (C, h, w) float32, the channels first, without tokens that are not cells.
    scores: (classes,) float64, of the explained tensor: logits where the model has them. Of a model with scores
        at positions, those at the positions of the target, or, without a gradient, at all of them together.
    gradient: (C, h, w) float32, of the target's score; None unless it was asked for.
    target: what the gradient is of; None without one.
    """

    image: ExplainedImage
    activation: Floats
    scores: Scores
    gradient: Floats | None
    target: Target | None


class _BlockActivations(NamedTuple):
    """The same for a block of images, (N, ...)."""

    activation: Maps
    scores: Scores
    gradient: Maps | None
    targets: list[Target]

    def row(self, number: int) -> _BlockActivations:
        row = slice(number, number + 1)
        gradient = None if self.gradient is None else self.gradient[row]
        return _BlockActivations(
            self.activation[row], self.scores[row], gradient, self.targets[row]
        )


def open_activations(
    model: Any, layer: str | int = AUTO, *, gradient: bool = False, **arguments: Any
) -> Explainer:
    """An explainer whose activations `read_activations` reads, and their `gradient` if it is asked for. Of
    several automatic layers, such as the grids of a detector, it reads the one with the most cells, and has a
    notice. `arguments` are those of `Explainer`: preprocess, labels, device, … SettingError for several layers,
    and for an argument that only changes maps.
    """
    for name in (name for name in OF_MAPS if name in arguments):
        raise SettingError(
            f"{name}: is an argument of explanations only; here, all activations of a layer are read"
        )
    method = _method_with({"activation", "gradient"} if gradient else {"activation"})
    explainer = Explainer(model, method, layer, **arguments)
    layers = explainer.plan.layers
    if layer == AUTO and len(layers) > 1:
        chosen = largest_layer(layers)
        explainer = Explainer(model, method, chosen.name, **arguments)
        notice = _choice_notice(chosen, layers)
        explainer.plan = replace(explainer.plan, notices=(*explainer.plan.notices, notice))
    layer_of(explainer)
    return explainer


def largest_layer(layers: Sequence[Layer]) -> Layer:
    """The layer with the most cells; of equal ones, or if a size is not known, the last one."""
    cells = [
        math.prod(side if isinstance(side, int) else 0 for side in layer.grid) for layer in layers
    ]
    if 0 in cells:
        return layers[-1]
    return layers[len(cells) - 1 - int(np.argmax(cells[::-1]))]


def _choice_notice(chosen: Layer, layers: Sequence[Layer]) -> str:
    others = ", ".join(layer.name for layer in layers if layer != chosen)
    return (
        f"the evidence is in {len(layers)} layers, of which {chosen.name} is read, which has the most cells; "
        f"choose another one with --layer: {others}"
    )


def _method_with(quantities: set[str]) -> str:
    """The first method that takes exactly these quantities, at one layer of the clean image."""
    return next(
        name
        for name, method in METHODS.items()
        if {*method.parameters} == quantities and method.has_layer and method.sampler.draw is None
    )


def layer_of(explainer: Explainer) -> Layer:
    """The layer that is read. SettingError if the explainer has several."""
    layers = explainer.plan.layers
    if len(layers) > 1:
        names = ", ".join(layer.name for layer in layers)
        raise SettingError(
            f"the activations of {len(layers)} layers ({names}) cannot be read together; name one of them "
            "with --layer"
        )
    return layers[0]


def read_activations(
    explainer: Explainer,
    images: ImageSource | Iterable[ImageSource],
    target: Spec | Iterable[Spec] = DEFAULT_TARGET,
    *,
    progress: ProgressCallback = no_progress,
    on_error: ErrorCallback | None = None,
) -> Iterator[ImageActivations]:
    """The activations of any number of images, one after the other, in the memory of a few. Images run in
    batches while the next ones are prepared; sources, targets and errors are as in `Explainer.stream`.
    """
    loads = pipeline.load_steps(
        input_loaders(as_sources(images), explainer.preprocessing, explainer.plan.image),
        targets_of(target),
        explainer.expand,
    )
    steps = explainer.run_steps(loads, progress=progress, compute=_compute)
    for step in pipeline.successful(steps, on_error):
        result: _BlockActivations = step.result
        gradient = None if result.gradient is None else result.gradient[0]
        targets = result.targets if result.gradient is not None else [None]
        yield ImageActivations(
            step.image, result.activation[0], result.scores[0], gradient, targets[0]
        )


def _compute(
    block: Block,
    images: Images,
    specs: Sequence[Spec],
    shown: Sequence[ExplainedImage],
    progress: ProgressCallback,
) -> _BlockActivations:
    """What the layer computes for a block of images. RunError for numbers that are not finite."""
    clean, targets = block.clean_pass(images, specs, shown)
    layer, (height, width) = block.plan.layers[0], block.plan.image.size_of(images)
    arrays = {
        output.quantity: layer.channels_first(array, height / width, np.float32)
        for output, array in {**clean.arrays, **block.runner.constants(images, targets)}.items()
    }
    block.runner.require_finite_scores(clean.scores)
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise RunError(
            f"{block.plan.name}: the values or gradients at {layer.name} are not finite (NaN or infinite); "
            "choose another layer, or check the model's weights and the preprocessing"
        )
    progress(len(images))
    return _BlockActivations(arrays["activation"], clean.scores, arrays.get("gradient"), targets)
