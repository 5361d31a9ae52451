"""Check whether and how a model can be explained, for `onnxcam check`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxcam.arrays import Images
from onnxcam.autodiff.backward import differentiable_path
from onnxcam.autodiff.rules import DEFAULT
from onnxcam.autodiff.unsupported import ZERO_GRADIENT
from onnxcam.defaults import DEFAULT_METHOD
from onnxcam.dense import HeadChoice
from onnxcam.errors import BlockedError, MissingRuleError, ModelError, OnnxcamError, one_line
from onnxcam.explain.answers import answers_request
from onnxcam.explain.arguments import LabelSource, resolve_labels
from onnxcam.explain.explainer import Explainer
from onnxcam.explain.head_choice import parse_head
from onnxcam.explain.image_values import read_inputs
from onnxcam.explain.inputs import prepare_array_file
from onnxcam.explain.preset_trial import try_array, try_presets
from onnxcam.explain.runners import Options, open_runner
from onnxcam.graph.operators import operator_key
from onnxcam.graph.reachability import Subgraph, carries_floats, subgraph_between
from onnxcam.heads.description import describe_outputs
from onnxcam.heads.positions import with_dense_scores
from onnxcam.image.files_beside import FilesBeside
from onnxcam.image.preprocess import tensor_size
from onnxcam.image.preprocessing_choice import AUTO, Choice, choose, notice_of, with_settings
from onnxcam.image.read import read
from onnxcam.methods import METHODS
from onnxcam.model.image_axes import for_images
from onnxcam.model.image_input import image_input
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.rewrite.gradient import expand_operators_without_rules
from onnxcam.rewrite.planner import layers as layers_of
from onnxcam.rewrite.planner import plan
from onnxcam.runtime.device import cuda_device_count, find_device, why_no_cuda
from onnxcam.spatial.layers import spatial_layers
from onnxcam.specs import ImageInput, Layer, PlanRequest

DEFAULT_CHANNELS = 3  # of the trial's input, if the model accepts any
SAMPLES = 2  # noisy copies in the trial: enough to run several inputs at once


def checkup(
    file: Path,
    output: str | None = None,
    size: tuple[int, int] | None = None,
    inputs: Mapping[str, Any] | None = None,
    photo: Path | None = None,
    labels: LabelSource = AUTO,
    *,
    task: str | None = None,
    head: str | None = None,
) -> dict[str, Any]:
    """Everything that `onnxcam check` prints; `size` is (height, width) of the trial's input, and
    `inputs` are the values of the model's other inputs. With a `photo`, what the model says about it under each
    plausible preprocessing, with these `labels`. `task` and `head` say what the outputs are (see `parse_head`).

    ModelError if there is no model, image input or score; SettingError for a size that the model does not take;
    ImageError for a photo that cannot be read.
    """
    model = for_images(load(file, read_inputs(file, inputs, AUTO, {"size": size})), size)
    image = image_input(model)
    files = FilesBeside(file)
    prepared = with_settings(choose(AUTO, model.metadata, image, files), size=size)
    trial_size, assumed = tensor_size(prepared.preprocessing, image), notice_of(prepared, image)
    choice = parse_head(task, head)
    request = PlanRequest("default", (), output=output, head=choice)
    scored_model, score, *_ = with_dense_scores(model, output, choice)
    layers = _layers_or_none(model, output, choice) or spatial_layers(
        scored_model, image.name, score.logits
    )
    # An image of integers has no derivative, but the layers after it do.
    sources = {image.name, *(layer.name for layer in layers)}
    expanded = _expanded(scored_model, sources, score.logits)
    path = subgraph_between(expanded.graph, sources, {score.logits}, carries_floats)
    options = {"output": output, "task": task, "head": head}
    trial = _run_trial(
        model, options, trial_size, [*files.problems, *([assumed] if assumed else [])]
    )
    return {
        "model": _describe_model(model),
        "input": {**vars(image), "dtype": str(image.dtype)},
        "values": {bound.name: bound.to_json() for bound in model.inputs},
        "score": vars(score),
        "outputs": describe_outputs(model, output, choice),
        "layer": next((layer.name for layer in layers if layer.automatic), None),
        "layer_smoothed": next((layer.name for layer in layers if layer.auto_for_smoothing), None),
        "operators": _operator_rows(path),
        "reach": _gradient_reach(expanded, layers, score.logits),
        "devices": _device_status(),
        "trial": trial,
        "explainable": trial["error"] is None,
        "without_gradient": _methods_without_gradient(model, output) if trial["blocked"] else [],
        **({} if photo is None else _try_presets(model, request, photo, labels, files, prepared)),
    }


def _try_presets(
    model: Model,
    request: PlanRequest,
    photo: Path,
    labels: LabelSource,
    files: FilesBeside,
    default: Choice,
) -> dict[str, Any]:
    """What the model says about a photo under each plausible preprocessing, or about an array as it is."""
    options = Options(model, find_device("auto"), {}, 1, cache=False)
    runner = open_runner(options, answers_request(request))
    names, notice = resolve_labels(labels, runner.plan, files)
    if (array := prepare_array_file(photo, runner.plan.image)) is not None:
        outcomes = [try_array(runner, names, array, default.preprocessing)]
    else:
        outcomes = [*try_presets(runner, names, read(photo), default.preprocessing)]
    return {
        "photo": str(photo),
        "presets": [outcome.to_json() for outcome in outcomes],
        "preset_notices": [notice] if notice else [],
    }


def _expanded(model: Model, sources: Collection[str], of: str) -> Model:
    """The model with operators that have no rule replaced by their definitions; the model itself if that fails,
    and the trial then says why.
    """
    try:
        return expand_operators_without_rules(model, sources, of, DEFAULT)
    except ModelError:
        return model


def _layers_or_none(model: Model, output: str | None, head: HeadChoice) -> list[Layer]:
    """The spatial layers, the automatic ones marked; empty if that fails, and the trial then says why."""
    try:
        return layers_of(model, output, head)
    except ModelError:
        return []


def _methods_without_gradient(model: Model, output: str | None) -> list[str]:
    """The methods that need no gradient and can be planned for this model."""
    names = []
    for name, method in METHODS.items():
        if not method.needs_gradient:
            try:
                plan(model, method.plan_request(output=output))
            except OnnxcamError:
                continue
            names.append(name)
    return names


def _describe_model(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "sha256": model.digest,
        "opset": model.opset,
        "ir_version": model.ir_version,
        "nodes": len(model.graph.nodes),
        "notices": list(model.notices),
    }


def _operator_rows(path: Subgraph) -> list[dict[str, Any]]:
    """The operators between the image and the score. Those that block the gradient come first: they have no
    rule, or their derivative is 0 everywhere.
    """
    rows: dict[str, dict[str, Any]] = {}
    for node in path.nodes:
        operator = operator_key(node.op, node.domain)
        rule, flat = operator in DEFAULT, operator in ZERO_GRADIENT
        new_row = {"operator": operator, "count": 0, "rule": rule, "flat": flat, "without": ""}
        row = rows.setdefault(operator, new_row)
        row["count"] += 1
        if flat or not rule:
            row["without"] = row["without"] or node.name or node.outputs[0].name
    return sorted(rows.values(), key=lambda row: (row["rule"], not row["flat"], -row["count"]))


def _gradient_reach(model: Model, layers: list[Layer], score: str) -> dict[str, Any]:
    """The number of layers after which all operators have rules, and the earliest of these layers."""
    reached = [layer.name for layer in layers if _is_reached(model, layer.name, score)]
    earliest = reached[0] if reached else None
    return {"layers": len(layers), "explainable": len(reached), "earliest": earliest}


def _is_reached(model: Model, layer: str, score: str) -> bool:
    try:
        return layer in differentiable_path(model.graph, {layer}, {score}, DEFAULT).tensors
    except ModelError:  # a rule is missing, or the gradient is blocked
        return False


def _device_status() -> list[dict[str, Any]]:
    problems = {f"cuda:{index}": why_no_cuda(index) for index in range(cuda_device_count() or 1)}
    return [
        {"name": name, "usable": problem is None, "error": problem}
        for name, problem in {"cpu": None, **problems}.items()
    ]


def _run_trial(
    model: Model, options: dict[str, Any], size: tuple[int, int], assumed: list[str]
) -> dict[str, Any]:
    """Runs what `onnxcam explain` does by default, on a random input: the settings, the error if it failed, and
    whether the reason is that no gradient passes.
    """
    trial: dict[str, Any] = {
        "method": DEFAULT_METHOD,
        "samples": SAMPLES,
        "size": list(size),
        "layer": None,
        "layers": [],
        "batch": None,
        "device": None,
        "notices": [*model.notices, *assumed],
        "error": None,
        "blocked": False,
    }
    try:
        explainer = Explainer(model, **options, samples=SAMPLES, chunk=SAMPLES)
        trial |= {
            "layer": explainer.plan.layers[0].name,
            "layers": [layer.name for layer in explainer.plan.layers],
            "batch": explainer.plan.image.batch,
            "device": str(explainer.device),
            "notices": [*explainer.notices, *assumed],
        }
        explanation = explainer(_random_image(explainer.plan.image, size))
        trial["notices"] = [*explanation.notices, *assumed]
    except OnnxcamError as error:
        trial["error"] = one_line(error)
        trial["blocked"] = isinstance(error, (BlockedError, MissingRuleError))
    return trial


def _random_image(image: ImageInput, size: tuple[int, int]) -> Images:
    """Random values in the model's own layout and dtype."""
    channels = image.channels or DEFAULT_CHANNELS
    shape = (channels, *size) if image.layout == "NCHW" else (*size, channels)
    draw = np.random.Generator(np.random.SFC64(0))
    if image.dtype.kind in "iu":
        return draw.integers(0, 127, (1, *shape)).astype(image.dtype)
    return draw.standard_normal((1, *shape)).astype(image.dtype)
