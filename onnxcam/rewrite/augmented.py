"""Files that `onnxcam augment` wrote: how they are known by their inputs and outputs, and what these mean."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from onnxcam.specs import SEED, gradient_at


def activation_at(layer: str) -> str:
    """The name of the output that holds the activation of a layer."""
    return f"activation/{layer}"


def augmented_layers(inputs: Collection[str], outputs: Collection[str]) -> list[str]:
    """The layers at which a model with these inputs and outputs returns gradients; none if it returns none."""
    prefix = gradient_at("")
    layers = [name.removeprefix(prefix) for name in outputs if name.startswith(prefix)]
    return [layer for layer in layers if SEED in inputs and activation_at(layer) in outputs]


def describe_gradients(
    layers: Iterable[str], inputs: Iterable[dict[str, Any]], outputs: Iterable[dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """The inputs and outputs (see `file_facts.describe_value`); those that were added have a `meaning`."""
    meanings = {SEED: "the weights of the scores: 1 for the class to explain, 0 for the others"}
    for layer in layers:
        meanings[gradient_at(layer)] = f"the gradient of the weighted scores at {layer}"
        meanings[activation_at(layer)] = f"the activation of {layer}"
    return {
        name: [
            {**value, "meaning": meanings[value["name"]]} if value["name"] in meanings else value
            for value in values
        ]
        for name, values in (("inputs", inputs), ("outputs", outputs))
    }
