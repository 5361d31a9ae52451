"""Every Softmax of a model whose result multiplies other values: attention of any kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import onnx_graphsurgeon as gs

from onnxcam.graph.operators import traits_of
from onnxcam.graph.reachability import Subgraph

Readers: TypeAlias = Mapping[str, Sequence[tuple[gs.Node, int]]]
REARRANGES = {"identity", "cast", "view", "transpose"}


class AttentionProduct(NamedTuple):
    """A Softmax, and the product with values that reads it: `slot` is its input there."""

    softmax: gs.Node
    product: gs.Node
    slot: int


def attention_products(path: Subgraph) -> Iterator[AttentionProduct]:
    """Each Softmax on the path with the first product that reads it, perhaps after its result was scaled,
    masked, or rearranged, or heads were mixed by constants.
    """
    readers: dict[str, list[tuple[gs.Node, int]]] = {}
    for node in path.nodes:
        for slot, tensor in enumerate(node.inputs):
            readers.setdefault(tensor.name, []).append((node, slot))
    for node in path.nodes:
        reader = _product(node.outputs[0], readers) if node.op == "Softmax" else None
        if reader is not None:
            yield AttentionProduct(node, *reader)


def _product(weights: gs.Tensor, readers: Readers) -> tuple[gs.Node, int] | None:
    waiting, visited = [weights], {weights.name}
    while waiting:
        tensor = waiting.pop()
        for node, slot in readers.get(tensor.name, ()):
            factors = [operand for operand in node.inputs if isinstance(operand, gs.Variable)]
            if traits_of(node).contracts and len(factors) > 1:
                return node, slot
            for output in node.outputs:
                if _keeps_weights(node, tensor, output) and output.name not in visited:
                    visited.add(output.name)
                    waiting.append(output)
    return None


def _keeps_weights(node: gs.Node, tensor: gs.Tensor, output: gs.Tensor) -> bool:
    """Whether an output of a node still holds the weights of its input, as many of them."""
    traits = traits_of(node)
    if traits.moves in REARRANGES or traits.contracts:
        return True
    same_shape = list(output.shape or ()) == list(tensor.shape or ())
    return traits.elementwise is not None and same_shape
