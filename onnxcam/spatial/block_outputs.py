"""The output of every block of a transformer: where its last residual connection is added."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import onnx_graphsurgeon as gs

from onnxcam.arrays import Shape
from onnxcam.graph.reachability import bottlenecks, carries_floats, producer, subgraph_between

NEVER = float("inf")


def block_outputs(graph: gs.Graph, attention: Sequence[str], score: str) -> list[str]:
    """For each attention matrix, in order, the last sum before the next matrix that everything passes through
    that the matrix changes, and that has the shape of the first such sum. "" if there is none.
    """
    order = {t.name: number for number, node in enumerate(graph.nodes) for t in node.outputs}
    tensors, names = graph.tensors(), []
    for matrix, following in zip_longest(attention, attention[1:]):
        after = subgraph_between(graph, {matrix}, {score}, carries_floats)
        end = order.get(following, NEVER)
        sums = [
            tensors[name]
            for name in bottlenecks(after)
            if order[name] < end and _is_sum(tensors[name])
        ]
        same = [tensor.name for tensor in sums if _agree(tensor.shape, sums[0].shape)]
        names.append(same[-1] if same else "")
    return names


def _is_sum(tensor: gs.Tensor) -> bool:
    """Whether a tensor is a sum of tensors that are no constants."""
    node = producer(tensor)
    if node is None or node.op not in ("Add", "Sum"):
        return False
    return sum(isinstance(operand, gs.Variable) for operand in node.inputs) > 1


def _agree(first: Shape, second: Shape) -> bool:
    """Whether two shapes have the same rank and the same sizes, where both are numbers."""
    return len(first) == len(second) and all(
        a == b or not (isinstance(a, int) and isinstance(b, int))
        for a, b in zip(first, second, strict=True)
    )
