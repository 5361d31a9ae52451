"""The scores that an output chooses from: it holds the number or the name of the best class, or a mask of those
above a threshold.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.graph.operators import only_reshapes, traits_of
from onnxcam.graph.reachability import is_float, producer
from onnxcam.heads.monotone import MAX_DEPTH, monotone_input

NAMES_BY_NUMBER = {"Gather": 1, "ArrayFeatureExtractor": 1, "LabelEncoder": 0}  # slot of the number
COMPARISONS = {"Greater": 0, "GreaterOrEqual": 0, "Less": 1, "LessOrEqual": 1}  # slot of the larger


def scores_before_choice(output: gs.Tensor) -> gs.Tensor | None:
    """The floats that an ArgMax or a comparison with a threshold chose from; None for other outputs."""
    tensor = output
    for _ in range(MAX_DEPTH):
        node = producer(tensor)
        if node is None or node.op == "ArgMax" or node.op in COMPARISONS:
            return None if node is None else _compared_scores(node)
        source = _deciding_input(node)
        if source is None:
            return None
        tensor = source
    return None


def _compared_scores(node: gs.Node) -> gs.Tensor | None:
    """The floats that an ArgMax or a comparison reads; None if the threshold is computed, too."""
    scores = node.inputs[COMPARISONS.get(node.op, 0)]
    has_fixed_threshold = not any(tensor.inputs for tensor in node.inputs if tensor is not scores)
    return scores if has_fixed_threshold and scores.inputs and is_float(scores) else None


def _deciding_input(node: gs.Node) -> gs.Tensor | None:
    """The input that decides which class the output names; None if there may be several."""
    slot = NAMES_BY_NUMBER.get(node.op)
    if slot is not None:
        return node.inputs[slot] if isinstance(node.inputs[0], gs.Constant) or not slot else None
    if only_reshapes(traits_of(node)) or traits_of(node).moves == "transpose":
        return node.inputs[0]
    step = monotone_input(node)
    return step[0] if step is not None and step[1] > 0 else None
