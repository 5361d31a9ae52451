"""Weights that a model and its gradient read in different arrangements, as tensors of their own.

OpenVINO 2026.4 arranges weights for each operator, and keeps the result under the address and the sizes of the
weights. A square matrix that one operator reads as it is and another transposed is arranged once, so the second
one computes something else, without a word. It reads a copy that the graph computes: runtimes fold it when they
open the file, which is no larger.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_graphsurgeon as gs

from onnxcam.graph.reachability import is_float

CONVOLUTIONS = ("Conv", "ConvTranspose")
COPY = "arranged"  # in the names of copies


def separate_shared_weights(graph: gs.Graph) -> None:
    """Give every reader of square weights that arranges them in another way than the first one a copy, in
    place, also in inner graphs.
    """
    first: dict[int, str] = {}
    for scope in (graph, *graph.subgraphs(recursive=True)):
        constant = _constants(scope)
        copies: dict[tuple[int, str], gs.Variable] = {}
        newest: dict[int, gs.Tensor] = {}
        nodes: list[gs.Node] = []
        for node in list(scope.nodes):
            for slot, arrangement in _arrangements(node):
                tensor = node.inputs[slot]
                if id(tensor) not in constant or not _may_be_confused(node, tensor):
                    continue
                if first.setdefault(id(tensor), arrangement) == arrangement:
                    continue
                key = id(tensor), arrangement
                if key not in copies:
                    source = newest.get(id(tensor), tensor)  # equal copies would become one
                    nodes.append(_copy(source, f"{tensor.name}/{COPY}/{len(nodes)}"))
                    copies[key] = newest[id(tensor)] = nodes[-1].outputs[0]
                node.inputs[slot] = copies[key]
            nodes.append(node)
        scope.nodes[:] = nodes


def _arrangements(node: gs.Node) -> Iterator[tuple[int, str]]:
    """The inputs of a node that are arranged as weights, and a word for how."""
    if node.domain:
        return
    if node.op in CONVOLUTIONS:
        yield 1, node.op
    elif node.op == "MatMul":
        yield from ((0, "left"), (1, "rows"))
    elif node.op == "Gemm":
        yield 0, "columns" if node.attrs.get("transA") else "left"
        yield 1, "columns" if node.attrs.get("transB") else "rows"
    elif node.op == "Transpose":  # is taken into the MatMul after it
        yield 0, f"axes {node.attrs.get('perm')}"
    elif node.op == "Einsum":
        yield from ((slot, f"{node.attrs['equation']} {slot}") for slot in range(len(node.inputs)))


def _may_be_confused(node: gs.Node, tensor: gs.Tensor) -> bool:
    """Whether the weights must not be read in two arrangements: square ones, and dequantized ones, whose scale
    per row OpenVINO takes for one per column.
    """
    is_dequantized = bool(tensor.inputs) and tensor.inputs[0].op == "DequantizeLinear"
    return is_dequantized or _is_square(node, tensor)


def _is_square(node: gs.Node, tensor: gs.Tensor) -> bool:
    """Whether float weights have the same sizes after their exchange; unknown sizes may have."""
    shape = tensor.shape
    if not is_float(tensor):
        return False
    if shape is None:
        return True
    if len(shape) < 2:
        return False
    if node.op in CONVOLUTIONS:
        group = int(node.attrs.get("group", 1))
        return shape[0] == shape[1] * group and shape[1] > 1
    return len(set(shape)) < len(shape) and shape[-1] != 1


def _constants(scope: gs.Graph) -> set[int]:
    """The tensors whose values do not depend on inputs: constants, and what is computed of these alone."""
    constant = {
        id(tensor) for tensor in scope.tensors().values() if isinstance(tensor, gs.Constant)
    }
    for node in scope.nodes:
        operands = [tensor for tensor in node.inputs if not tensor.is_empty()]
        if operands and all(id(tensor) in constant for tensor in operands):
            constant |= {id(tensor) for tensor in node.outputs}
    return constant


def _copy(tensor: gs.Tensor, name: str) -> gs.Node:
    """max(x, x): a copy that OpenVINO neither drops, as it drops 1 x, nor takes into the scale of a dequantized
    tensor, as it takes -x.
    """
    result = gs.Variable(name, tensor.dtype, list(tensor.shape or ()) or None)
    return gs.Node("Max", name, {}, [tensor, tensor], [result])
