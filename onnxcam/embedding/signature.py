"""What the inputs and outputs of a file with an explanation mean, in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from onnxcam.embedding.metadata import (
    LAYER_MAP,
    OVERLAY,
    PIXELS,
    SALIENCY,
    TARGET,
    EmbeddedExplanation,
)
from onnxcam.targets.classes import DEFAULT_TARGET


def describe_call(
    explanation: EmbeddedExplanation,
    inputs: Iterable[dict[str, Any]],
    outputs: Iterable[dict[str, Any]],
) -> dict[str, list[dict[str, Any]]]:
    """The inputs and outputs (see `file_facts.describe_value`), each with its `meaning`."""
    return {
        "inputs": [value | {"meaning": _input_meaning(explanation, value)} for value in inputs],
        "outputs": [value | {"meaning": _output_meaning(explanation, value)} for value in outputs],
    }


def describe_target(explanation: EmbeddedExplanation) -> str:
    """What is explained, unless the input `target` says otherwise."""
    target = explanation.target
    return "the one with the highest score" if target == DEFAULT_TARGET else target


def _input_meaning(explanation: EmbeddedExplanation, value: dict[str, Any]) -> str:
    if value["name"] == TARGET:
        return f"the class to explain, one for each image; -1: {describe_target(explanation)}"
    if value["name"] == PIXELS:
        is_fixed = all(isinstance(size, int) for size in value["shape"][1:3])
        return "RGB images, 0 to 255" + ("" if is_fixed else ", of any size, the same for all")
    return f"as of {explanation.model_name}"


def _output_meaning(explanation: EmbeddedExplanation, value: dict[str, Any]) -> str:
    if value["name"] == SALIENCY:
        sign = "negative values speak against the target" if explanation.signed else "0: none"
        return f"the evidence at each pixel, not rescaled; {sign}"
    if value["name"] == OVERLAY:
        return "the map drawn over the image, RGB"
    if value["name"] == LAYER_MAP:
        return f"the evidence in each cell of {' and '.join(explanation.layers)}"
    score = explanation.score
    if score is not None and value["name"] == score.output:
        kind = f"probabilities ({score.activation})" if score.activation else "scores"
        return f"the {kind} of {score.classes} classes"
    return f"as of {explanation.model_name}"
