"""Which tensors a model computes from the image: constants, sizes, and the image itself hold no scores."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.graph.reachability import depends_on
from onnxcam.graph.traits import Traits
from onnxcam.heads.monotone import before_reshapes
from onnxcam.model.model import Model


def is_computed(model: Model, tensor: gs.Tensor) -> bool:
    """Whether the values of a tensor are computed from those of an input."""
    return why_not_computed(model, tensor) is None


def why_not_computed(model: Model, tensor: gs.Tensor) -> str | None:
    """Why there is nothing to explain of a tensor; None if it is computed from an input."""
    inputs = {source.name for source in model.graph.inputs}
    if before_reshapes(tensor, _copies).name in inputs:
        return "is an input of the model"
    return None if depends_on(tensor, inputs) else "does not depend on the image"


def _copies(traits: Traits) -> bool:
    return traits.moves in ("identity", "cast")
