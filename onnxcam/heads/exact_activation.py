"""Whether a model's probabilities can be computed from its logits."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.graph.operators import traits_of
from onnxcam.graph.reachability import producer
from onnxcam.heads.head import Head
from onnxcam.heads.monotone import before_reshapes


def is_exact_activation(head: Head) -> bool:
    """Whether the probabilities are the output activation of the logits, over the classes, and nothing else:
    not scaled, shifted, or rounded on the way. False if the activation is written out in smaller operators.
    """
    node = producer(before_reshapes(head.probabilities))
    if node is None or node.op != head.output_activation or node.inputs[0] is not head.logits:
        return False
    return traits_of(node).output_activation and (
        node.op == "Sigmoid" or _is_over_classes(node, head)
    )


def _is_over_classes(node: gs.Node, head: Head) -> bool:
    """Whether a Softmax is over the classes in any opset: before 13 it includes all axes after its own."""
    return head.class_axis is not None and head.class_axis == node.attrs.get("axis", -1) % len(
        head.logits.shape
    )
