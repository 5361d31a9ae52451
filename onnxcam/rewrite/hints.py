"""Suggestions for a model whose gradient is blocked; each is tried on the model before it is made."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_graphsurgeon as gs

from onnxcam.autodiff.backward import differentiable_path
from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import BlockedError, MissingRuleError, ModelError
from onnxcam.graph.node_errors import name_of
from onnxcam.graph.reachability import is_float
from onnxcam.heads.score import class_count_of
from onnxcam.methods import METHODS
from onnxcam.methods.place import PLACES
from onnxcam.model.model import Model
from onnxcam.rewrite.gradient import expand_operators_without_rules
from onnxcam.spatial.layers import choose_layers, spatial_layers
from onnxcam.specs import Layer

SMOOTH = {  # replacements of step functions that have a derivative
    "Hardmax": "Softmax",
    "ArgMax": "Softmax",
    "ArgMin": "Softmax",
    **dict.fromkeys(("Greater", "GreaterOrEqual", "Less", "LessOrEqual"), "Sigmoid"),
    **dict.fromkeys(("Floor", "Ceil", "Round"), "Identity"),
}
MAX_LISTED = 3  # the number of layers that are named


def add_hint(
    error: BlockedError | MissingRuleError,
    model: Model,
    image: str,
    of: str,
    rules: Rules,
) -> ModelError:
    """The error with a hint that works for this model: layers after the obstacle, a score before it, or a
    changed export.
    """
    nodes = [node for node in model.graph.nodes if name_of(node) == error.node]
    layers = spatial_layers(model, image, of)
    usable = [layer.name for layer in layers if reaches(model, layer, of, rules)]
    if usable:
        names = ", ".join(usable[: -MAX_LISTED - 1 : -1])
        return error.with_hint(
            f"{_other_methods()}, or choose one of the layers that a gradient reaches: {names}"
        )
    if isinstance(error, MissingRuleError):
        return error.with_hint(
            f"there is no layer after it; {_other_methods()}, or add a rule in onnxcam/autodiff/rules"
        )
    earlier_score = next(
        (name for node in nodes for name in _scores_before(node, model, image, rules)), None
    )
    alternative = (
        f", or explain the tensor before it (--output {earlier_score})" if earlier_score else ""
    )
    smooth = next((SMOOTH[node.op] for node in nodes if node.op in SMOOTH), None)
    change = f"with {smooth} in place of {nodes[0].op}" if smooth else "without it"
    return error.with_hint(
        f"there is no layer after it; {_other_methods()}, or export the model {change}{alternative}"
    )


def _other_methods() -> str:
    """Which methods work for every model that runs."""
    names = [
        name
        for name, method in METHODS.items()
        if not method.needs_gradient and method.at not in PLACES
    ]
    return f"use a method that needs no gradient ({', '.join(names)})"


def reaches(model: Model, layer: Layer, of: str, rules: Rules) -> bool:
    """Whether a gradient of the score reaches a layer, and all operators on the way have rules."""
    if layer.ignored_by_score:
        return False
    try:
        plain = expand_operators_without_rules(model, {layer.name}, of, rules)
        return layer.name in differentiable_path(plain.graph, {layer.name}, {of}, rules).tensors
    except ModelError:  # no rule, or a form that has none
        return False


def _scores_before(node: gs.Node, model: Model, image: str, rules: Rules) -> Iterator[str]:
    """The inputs of a node with one score per class whose gradient reaches a layer."""
    for tensor in node.inputs:
        if is_float(tensor) and not isinstance(tensor, gs.Constant) and class_count_of(tensor) > 1:
            layers = choose_layers(
                model, image, tensor.name, spatial_layers(model, image, tensor.name)
            )
            if layers and all(reaches(model, layer, tensor.name, rules) for layer in layers):
                yield str(tensor.name)
