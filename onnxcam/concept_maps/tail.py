"""The class scores of other activations, computed by the model after the layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcam.arrays import Array, Floats, Images, Maps, Scores
from onnxcam.explain.explainer import Explainer
from onnxcam.explain.run import Runner
from onnxcam.methods import METHODS, Samples
from onnxcam.specs import HEAD, Layer
from onnxcam.targets.classes import DEFAULT_TARGET
from onnxcam.targets.target import Target

# of a concept's part of the activation, to both sides; of quantized models
STEP, COARSE_STEP = 2.0**-6, 1.0


def open_tail(model: Any, layer: str, **arguments: Any) -> Explainer:
    """An explainer that runs the model after a layer on other values of it."""
    method = next(
        name
        for name, row in METHODS.items()
        if row.sampler.varies == "activation" and not row.needs_gradient
    )
    return Explainer(model, method, layer, **arguments)


def class_derivatives(runner: Runner, image: Images, parts: Maps) -> Scores:
    """(n, classes): dS_c/dt of the scores S_c(A + t V) at t = 0 for `parts` V (n, C, h, w) of the activation A
    of an image (1, ...), that is, the gradient of every class's score, times V, and added up.

    By central differences, which are exact where the model after the layer is linear within a 64th of V; of a
    quantized model, whose scores change in steps, within V.
    """
    plan, count = runner.plan, len(parts)
    step = COARSE_STEP if plan.is_quantized else max(STEP, plan.epsilon ** (1 / 3))
    steps = np.repeat([step, -step], count)
    above, below = np.split(shifted_scores(runner, image, np.concatenate([parts, parts]), steps), 2)
    return (above - below) / (2 * step)


def shifted_scores(runner: Runner, image: Images, parts: Maps, steps: Floats) -> Scores:
    """(n, classes): the scores of an image (1, ...) with the activation A + t V, for `parts` V (n, C, h, w) and
    `steps` t (n,).
    """
    plan = runner.plan
    none = np.zeros(plan.score.classes)
    clean = runner.clean(image.astype(plan.image_dtype, copy=False), none[None])
    base = clean.sample_base(0, is_cut=HEAD in runner.runs)
    samples = Samples(len(parts), in_layout(plan.layers[0], parts, base.values.shape), steps)
    return runner.class_scores(base, samples, Target("", none, -1, DEFAULT_TARGET))


def in_layout(layer: Layer, maps: Maps, shape: tuple[int, ...]) -> Array:
    """Maps (n, C, h, w) as values of the layer, which has this shape for one image; 0 in tokens that are not
    cells. The opposite of `Layer.channels_first`.
    """
    values = maps.astype(np.float32)
    if layer.cells is not None:
        ends = (layer.tokens_before, layer.tokens_after)
        values = np.pad(values.reshape(*values.shape[:2], -1), ((0, 0), (0, 0), ends))
    return np.moveaxis(values, 1, layer.channel_axis % len(shape))
