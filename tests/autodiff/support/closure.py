"""The operators that a gradient is written with."""

from onnxcam.graph.reachability import is_float
from onnxcam.model.model import Model


def emitted_operators(model: Model) -> set[str]:
    """The operators that make floats of floats, of the nodes that the rules wrote."""
    return {
        node.op
        for node in model.graph.nodes
        if node.name.startswith("onnxcam/")
        and any(is_float(tensor) for tensor in node.inputs if not tensor.is_empty())
        and is_float(node.outputs[0])
    }
