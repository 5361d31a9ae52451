"""Numbers that were divided by their norm, as in an embedding."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.graph.reachability import producer

NORM_OPERATORS = {"ReduceL2", "Sqrt"}


def before_normalization(tensor: gs.Tensor) -> gs.Tensor | None:
    """The tensor before its division by its norm; None if it was not divided."""
    node = producer(tensor)
    if node is None or node.op != "Div":
        return node.inputs[0] if node and node.op == "LpNormalization" else None
    dividend, divisor = node.inputs
    while (source := producer(divisor)) is not None:
        if source.op in NORM_OPERATORS:
            return dividend
        if source.op not in ("Clip", "Expand", "Max", "Add"):
            return None
        divisor = source.inputs[0]
    return None
