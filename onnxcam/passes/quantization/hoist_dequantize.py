"""Move every DequantizeLinear before the operators that only move its integers: these then move floats.

It then reads the output of a QuantizeLinear directly, which `straight_through` needs. What an operator does to
the positions of integers it does to the floats that they represent, if all have one scale.

Assumes a canonical graph with its nodes in order. Changes the graph in place. Guarantees the same outputs, and
that the output of every DequantizeLinear keeps its name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import onnx_graphsurgeon as gs

from onnxcam.arrays import FLOAT32
from onnxcam.graph.constants import is_operator, quantizer_of
from onnxcam.graph.operators import traits_of
from onnxcam.graph.reachability import producer

Key: TypeAlias = tuple[str, str, str]  # names of a quantized tensor, its scale and its zero point


@dataclass
class DequantizedTensors:
    """Quantized tensors as floats, each written once, where it is first needed.

    `cached`: the floats of a quantized tensor. `pending`: written nodes that the graph does not have yet.
    `renamed`: names of floats that replace the output of a DequantizeLinear.
    """

    cached: dict[Key, gs.Tensor] = field(default_factory=dict)
    pending: list[gs.Node] = field(default_factory=list)
    renamed: set[str] = field(default_factory=set)

    def floats_of(self, quantized: gs.Tensor, template: gs.Node) -> gs.Tensor:
        """What a DequantizeLinear like `template` computes of a quantized tensor."""
        key = _key(quantized, template)
        if key not in self.cached:
            self._write(quantized, template, key)
        return self.cached[key]

    def duplicate_of(self, node: gs.Node) -> gs.Tensor | None:
        """The output of an earlier DequantizeLinear that computes the same as this one, or None."""
        first = self.cached.setdefault(_key(node.inputs[0], node), node.outputs[0])
        return None if first is node.outputs[0] else first

    def take_pending(self) -> list[gs.Node]:
        """The nodes that were written since the last call."""
        nodes, self.pending = self.pending, []
        return nodes

    def _write(self, quantized: gs.Tensor, template: gs.Node, key: Key) -> None:
        node = _moving_node(quantized)
        if node is None:
            inputs = [quantized, *list(template.inputs)[1:]]
            attrs = dict(template.attrs)
            self._append_node("DequantizeLinear", template.domain, attrs, inputs, [quantized])
            self.cached[key] = self.pending[-1].outputs[0]
            return
        moved = _moved_slots(node)
        inputs = [
            self.floats_of(tensor, template) if slot in moved else tensor
            for slot, tensor in enumerate(node.inputs)
        ]
        self._append_node(node.op, node.domain, dict(node.attrs), inputs, node.outputs)
        for integers, floats in zip(node.outputs, self.pending[-1].outputs, strict=True):
            self.cached[integers.name, key[1], key[2]] = floats

    def _append_node(
        self,
        operator: str,
        domain: str | None,
        attrs: dict[str, object],
        inputs: list[gs.Tensor],
        originals: list[gs.Tensor],
    ) -> None:
        dtype = FLOAT32
        outputs = [gs.Variable(f"{tensor.name}/float", dtype, tensor.shape) for tensor in originals]
        node = gs.Node(operator, outputs[0].name, attrs, inputs, outputs)
        node.domain = domain
        self.pending.append(node)


def _key(quantized: gs.Tensor, template: gs.Node) -> Key:
    scale, *zero = [tensor.name for tensor in list(template.inputs)[1:3]]
    return quantized.name, scale, zero[0] if zero else ""


def _moved_slots(node: gs.Node) -> range:
    """The inputs of a moving operator that hold the moved numbers."""
    return range(len(node.inputs)) if node.op == "Concat" else range(1)


def _moving_node(quantized: gs.Tensor) -> gs.Node | None:
    """The moving operator that wrote these integers, if everything that it moved was quantized from floats."""
    node = producer(quantized)
    if node is None or node.domain or traits_of(node).moves in (None, "cast", "pad"):
        return None
    if node.op == "MaxPool" and len(node.outputs) > 1:
        return None
    sources = [node.inputs[slot] for slot in _moved_slots(node)]
    return node if all(quantizer_of(source) or _moving_node(source) for source in sources) else None


def hoist_dequantize(graph: gs.Graph) -> gs.Graph:
    """Move every DequantizeLinear before the operators that only move its integers, and turn those that repeat
    another one into an Identity, in place; returns the graph.
    """
    tensors, nodes = DequantizedTensors(), []
    for node in graph.nodes:
        nodes.extend(_hoist(graph, node, tensors))
    graph.nodes = nodes
    return graph


def _hoist(graph: gs.Graph, node: gs.Node, tensors: DequantizedTensors) -> list[gs.Node]:
    """The nodes that take the place of a node."""
    if not is_operator(node, "DequantizeLinear") or not _has_one_scale(node):
        return [node]
    quantized, output = node.inputs[0], node.outputs[0]
    if _moving_node(quantized) is None:
        duplicate = tensors.duplicate_of(node) if quantizer_of(quantized) is not None else None
        if duplicate is not None:
            _turn_into_identity(node, duplicate)
        return [node]
    floats = tensors.floats_of(quantized, node)
    nodes = tensors.take_pending()
    if floats.name in tensors.renamed:
        _turn_into_identity(node, floats)
        return [*nodes, node]
    tensors.renamed.add(output.name)
    _substitute(graph, floats, output)
    node.inputs.clear()
    return nodes


def _has_one_scale(node: gs.Node) -> bool:
    parameters = list(node.inputs)[1:]
    return all(isinstance(tensor, gs.Constant) and tensor.values.size == 1 for tensor in parameters)


def _turn_into_identity(node: gs.Node, source: gs.Tensor) -> None:
    """Turn a node into an Identity of a tensor, in place."""
    node.op, node.domain, node.attrs = "Identity", None, {}
    node.inputs.clear()
    node.inputs.append(source)


def _substitute(graph: gs.Graph, new: gs.Tensor, old: gs.Tensor) -> None:
    """Put the tensor `new` in place of `old`, under its name, in place."""
    for reader in list(old.outputs):
        for slot, tensor in enumerate(reader.inputs):
            if tensor is old:
                reader.inputs[slot] = new
    graph.outputs = [new if tensor is old else tensor for tensor in graph.outputs]
    old.inputs.clear()
    new.name, new.dtype, new.shape = old.name, old.dtype, old.shape
