"""What `onnxcam check` finds out about a model."""

from __future__ import annotations

from pathlib import Path as File
from typing import Any

import numpy as np

from onnxcam.arrays import ImageInput, Images
from onnxcam.autodiff.backward import differentiable_path
from onnxcam.autodiff.rules import DEFAULT
from onnxcam.autodiff.ruletable import key
from onnxcam.cli.plain import one_line
from onnxcam.errors import DeviceError, MissingRuleError, OnnxcamError
from onnxcam.explain import Explainer
from onnxcam.graph.chosen import Layer
from onnxcam.graph.dense import with_score
from onnxcam.graph.layout import image_input
from onnxcam.graph.model import Model, load
from onnxcam.graph.path import Path, between, carries_floats
from onnxcam.methods import DEFAULT_METHOD
from onnxcam.methods.targets import target
from onnxcam.rewrite.augment import simplified
from onnxcam.rewrite.plan import layers as layers_of
from onnxcam.runtime.device import cuda_devices
from onnxcam.runtime.device import device as find_device

UNKNOWN_SIDE, UNKNOWN_CHANNELS = 224, 3  # of the trial, where the model takes any


def checkup(file: File, output: str | None) -> dict[str, Any]:
    """Everything that `onnxcam check` says. ModelError where there is no model, picture or score."""
    model = load(file)
    image = image_input(model)
    scored, score = with_score(model, output)
    layers = layers_of(model, output)
    automatic = next((each.name for each in layers if each.automatic), None)
    # A picture of integers carries no derivative, but the layers behind it do.
    sources = {image.name, *(each.name for each in layers)}
    plain = simplified(scored, sources, score.logits, DEFAULT)
    path = between(plain.graph, sources, {score.logits}, carries_floats)
    trial = _trial(model, output)
    return {
        "model": _model(model),
        "input": {**vars(image), "dtype": str(image.dtype)},
        "score": vars(score),
        "layer": automatic,
        "operators": _operators(path),
        "reach": _reach(plain, layers, score.logits),
        "devices": [_device(name) for name in _devices()],
        "trial": trial,
        "explainable": trial["fault"] is None,
    }


def _model(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "sha256": model.digest,
        "opset": model.opset,
        "ir_version": model.ir_version,
        "nodes": len(model.graph.nodes),
        "notices": list(model.notices),
    }


def _operators(path: Path) -> list[dict[str, Any]]:
    """The operators between the picture and the score, those without a rule first."""
    found: dict[str, dict[str, Any]] = {}
    for node in path.nodes:
        operator = key(node.op, node.domain or "")
        row = {"operator": operator, "count": 0, "rule": operator in DEFAULT, "without": ""}
        entry = found.setdefault(operator, row)
        entry["count"] += 1
        if not entry["rule"]:
            entry["without"] = entry["without"] or node.name or node.outputs[0].name
    return sorted(found.values(), key=lambda each: (each["rule"], -each["count"]))


def _reach(model: Model, layers: list[Layer], score: str) -> dict[str, Any]:
    """How many layers every operator behind which has a rule, and the earliest of them."""
    reached = [each.name for each in layers if _has_rules(model, each.name, score)]
    earliest = reached[0] if reached else None
    return {"layers": len(layers), "explainable": len(reached), "earliest": earliest}


def _has_rules(model: Model, layer: str, score: str) -> bool:
    try:
        return layer in differentiable_path(model.graph, {layer}, {score}, DEFAULT).tensors
    except MissingRuleError:
        return False


def _devices() -> list[str]:
    return ["cpu", *(f"cuda:{each}" for each in range(cuda_devices() or 1))]


def _device(name: str) -> dict[str, Any]:
    try:
        find_device(name)
    except DeviceError as fault:
        return {"name": name, "usable": False, "fault": one_line(fault)}
    return {"name": name, "usable": True, "fault": None}


def _trial(model: Model, output: str | None) -> dict[str, Any]:
    """Whether gradients at the automatic layer come out finite, on a random input."""
    try:
        explainer = Explainer(model, "grad-cam", output=output)
        gradient = _gradient(explainer)
    except OnnxcamError as fault:
        return {"layer": None, "device": None, "notices": [], "fault": one_line(fault)}
    finite = bool(np.isfinite(gradient).all())
    return {
        "layer": explainer.plan.layers[0].name,
        "device": str(explainer.probe.batches.session.device),
        "notices": list(dict.fromkeys([*explainer.notices, *_notices_of_batches(model, output)])),
        "fault": None
        if finite
        else "the gradients are not finite (NaN or infinite) on random input",
    }


def _notices_of_batches(model: Model, output: str | None) -> tuple[str, ...]:
    """What is said of the model where several images are run together, as the default method does."""
    try:
        return Explainer(model, DEFAULT_METHOD, output=output).plan.notices
    except OnnxcamError:
        return ()


def _gradient(explainer: Explainer) -> Images:
    picture = _random(explainer.plan.image)
    scores, activations = explainer.probe.clean(picture)
    top = target("top1", explainer.plan.score.classes, None, scores[0])
    return explainer.probe.probed(picture, activations, top)[0]["gradient"]


def _random(image: ImageInput) -> Images:
    """A picture of noise in the model's own layout, size and dtype."""
    height, width = image.height or UNKNOWN_SIDE, image.width or UNKNOWN_SIDE
    channels = image.channels or UNKNOWN_CHANNELS
    shape = (channels, height, width) if image.layout == "NCHW" else (height, width, channels)
    draw = np.random.Generator(np.random.SFC64(0))
    if image.dtype.kind in "iu":
        return draw.integers(0, 127, (1, *shape)).astype(image.dtype)
    return draw.standard_normal((1, *shape)).astype(image.dtype)
