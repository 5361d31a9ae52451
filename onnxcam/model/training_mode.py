"""Operators exported in training mode, which depend on the other images of a batch, or on chance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.graph.attributes import argument
from onnxcam.graph.operators import traits_of


def training_notices(graph: gs.Graph) -> Iterator[str]:
    """Notices about a graph that is not in evaluation mode, with the first such node."""
    of_batch = [node for node in graph.nodes if _uses_batch_statistics(node, graph.opset)]
    if of_batch:
        yield (
            f"{_named(of_batch)} in training mode: each image is normalized by its own statistics instead "
            "of the learned ones; export the model in evaluation mode"
        )
    drawn = [node for node in graph.nodes if _is_random(node, graph.opset)]
    if drawn:
        yield (
            f"random numbers from {_named(drawn)}: scores and maps differ from run to run; export the model "
            "in evaluation mode"
        )


def _named(nodes: list[gs.Node]) -> str:
    first = nodes[0]
    more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
    return f"{first.op} ({first.name or first.outputs[0].name}){more}"


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
