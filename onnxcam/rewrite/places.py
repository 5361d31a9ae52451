"""Find the tensors of a method that takes its quantities at several of them."""

from __future__ import annotations

from collections.abc import Sequence

from onnxcam.errors import ModelError
from onnxcam.graph.constants import constant_values
from onnxcam.graph.operators import operator_key
from onnxcam.graph.reachability import carries_floats, subgraph_between
from onnxcam.methods.place import PLACES, AttentionMatrices, ModelView, Place
from onnxcam.model.model import Model
from onnxcam.passes.expand_functions import expand_functions
from onnxcam.spatial.attention import attention_matrices
from onnxcam.specs import Layer


def find_places(model: Model, image: str, explained: str, at: str) -> tuple[Model, list[Place]]:
    """The places that a row of `PLACES` finds, and the model that has their tensors: fused attention is taken
    apart in it. ModelError with the reason if there are none.
    """
    path = subgraph_between(model.graph, {image}, {explained}, carries_floats)
    planned = model

    def attention() -> AttentionMatrices:
        nonlocal planned
        planned = _with_separate_attention(model, explained)
        return attention_matrices(planned, image, explained)

    try:
        places = PLACES[at](ModelView(path.nodes, constant_values, attention))
    except ModelError as error:
        raise ModelError(f"{model.name}: {error}") from error
    if not places:
        raise ModelError(f"{model.name}: has no {at}; use another method")
    return planned, places


def _with_separate_attention(model: Model, explained: str) -> Model:
    """The model with its nodes `Attention` (since opset 23) replaced by products and a Softmax."""
    copy = model.copy()
    fused = [node for node in copy.graph.nodes if operator_key(node.op, node.domain) == "Attention"]
    return copy if expand_functions(copy.graph, fused, {explained}) else model


def layers_at(model: Model, places: Sequence[Place]) -> list[Layer]:
    """The tensors of places as layers, to arrange their quantities."""
    tensors = model.graph.tensors()
    return [
        Layer(
            place.tensor,
            tensors[place.tensor].inputs[0].op,
            tuple(tensors[place.tensor].shape or ()),
            place.channel_axis,
            is_bottleneck=False,
        )
        for place in places
    ]
