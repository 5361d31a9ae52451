"""Find operators exported in training mode: they depend on the other images of a batch, or are random."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.graph.attributes import argument
from onnxcam.graph.operators import traits_of


def training_notices(graph: gs.Graph) -> Iterator[str]:
    """Notices about a graph that is not in evaluation mode, with the first such node."""
    batch_norms = [node for node in graph.nodes if _uses_batch_statistics(node, graph.opset)]
    if batch_norms:
        yield (
            f"{_describe(batch_norms)} in training mode: each image is normalized by its own statistics "
            "instead of the learned ones; export the model in evaluation mode"
        )
    drawing = [node for node in graph.nodes if _is_random(node, graph.opset)]
    if drawing:
        yield (
            f"random numbers from {_describe(drawing)}: scores and maps differ from run to run; export the "
            "model in evaluation mode"
        )


def _describe(nodes: list[gs.Node]) -> str:
    """The operator and name of the first node, and how many others there are."""
    first = nodes[0]
    rest = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
    return f"{first.op} ({first.name or first.outputs[0].name}){rest}"


def _uses_batch_statistics(node: gs.Node, opset: int) -> bool:
    if node.op != "BatchNormalization" or node.domain:
        return False
    return bool(argument(node, "training_mode", opset)) or (opset < 14 and len(node.outputs) > 1)


def _is_random(node: gs.Node, opset: int) -> bool:
    if node.domain:
        return False
    random = traits_of(node).random
    if random != "training":
        return random == "always"
    training = argument(node, "training_mode", opset)
    return training is not None and not (isinstance(training, np.ndarray) and not training.any())
