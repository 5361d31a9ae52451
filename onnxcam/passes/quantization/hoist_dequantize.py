"""DequantizeLinear before the operators that only move its integers: they then move floats."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.graph.constants import is_operator, quantizer_of
from onnxcam.graph.reachability import producer

MOVING = {  # what they do to numbers they do to what the numbers stand for, if all have one scale
    *("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Tile"),
    *("Split", "Concat", "Slice", "Gather", "GatherND", "DepthToSpace", "SpaceToDepth", "MaxPool"),
}


@dataclass
class DequantizedTensors:
    """Quantised tensors as floats, each written once, where it is first asked for."""

    known: dict[tuple[str, str, str], gs.Tensor] = field(default_factory=dict)
    written: list[gs.Node] = field(default_factory=list)

    def of(self, quantised: gs.Tensor, like: gs.Node) -> gs.Tensor:
        """What a DequantizeLinear `like` that gives."""
        key = _key(quantised, like)
        if key not in self.known:
            self._write(quantised, like, key)
        return self.known[key]

    def known_of(self, node: gs.Node) -> gs.Tensor | None:
        """What another DequantizeLinear made of the same; None for the first."""
        key = _key(node.inputs[0], node)
        found = self.known.setdefault(key, node.outputs[0])
        return None if found is node.outputs[0] else found

    def _write(self, quantised: gs.Tensor, like: gs.Node, key: tuple[str, str, str]) -> None:
        node = _mover(quantised)
        if node is None:
            attrs, scale = dict(like.attrs), list(like.inputs)[1:]
            self._emit("DequantizeLinear", like.domain, attrs, [quantised, *scale], [quantised])
            self.known[key] = self.written[-1].outputs[0]
            return
        inputs = [self.of(x, like) if i in _moved(node) else x for i, x in enumerate(node.inputs)]
        self._emit(node.op, node.domain, dict(node.attrs), inputs, node.outputs)
        for own, found in zip(node.outputs, self.written[-1].outputs, strict=True):
            self.known[(own.name, *key[1:])] = found

    def _emit(
        self,
        operator: str,
        domain: str | None,
        attrs: dict[str, object],
        inputs: list[gs.Tensor],
        outputs: list[gs.Tensor],
    ) -> None:
        dtype = np.dtype(np.float32)
        made = [gs.Variable(f"{each.name}/float", dtype, each.shape) for each in outputs]
        node = gs.Node(operator, made[0].name, attrs, inputs, made)
        node.domain = domain
        self.written.append(node)


def _key(quantised: gs.Tensor, like: gs.Node) -> tuple[str, str, str]:
    names = [each.name for each in list(like.inputs)[1:3]]
    return quantised.name, names[0], names[1] if len(names) > 1 else ""


def _moved(node: gs.Node) -> range:
    """The inputs of a moving operator that hold what is moved."""
    return range(len(node.inputs)) if node.op == "Concat" else range(1)


def _mover(quantised: gs.Tensor) -> gs.Node | None:
    """The moving operator that wrote these integers, if all that it moved was rounded from floats."""
    node = producer(quantised)
    if node is None or node.domain or node.op not in MOVING:
        return None
    if node.op == "MaxPool" and len(node.outputs) > 1:
        return None
    sources = [node.inputs[slot] for slot in _moved(node)]
    return node if all(quantizer_of(each) or _mover(each) for each in sources) else None


def hoist_dequantize(graph: gs.Graph) -> gs.Graph:
    """Move every DequantizeLinear before the operators that only move its integers, and leave one of those
    that do the same, in place.
    """
    floats, nodes = DequantizedTensors(), []
    taken: set[str] = set()
    for node in graph.nodes:
        alike = is_operator(node, "DequantizeLinear") and _of_one_scale(node)
        if alike and _mover(node.inputs[0]) is not None:
            found = floats.of(node.inputs[0], node)
            nodes.extend(floats.written)
            floats.written.clear()
            if found.name not in taken and (first := node.outputs[0]):
                taken.add(first.name)
                _take_over(graph, found, first)
                node.inputs.clear()
                continue
            _become_identity(node, found)
        elif (
            alike and quantizer_of(node.inputs[0]) is not None and (again := floats.known_of(node))
        ):
            _become_identity(node, again)
        nodes.append(node)
    graph.nodes = nodes
    return graph


def _become_identity(node: gs.Node, of: gs.Tensor) -> None:
    node.op, node.domain, node.attrs = "Identity", None, {}
    node.inputs.clear()
    node.inputs.append(of)


def _of_one_scale(node: gs.Node) -> bool:
    return all(isinstance(each, gs.Constant) and each.values.size == 1 for each in node.inputs[1:])


def _take_over(graph: gs.Graph, found: gs.Tensor, gone: gs.Tensor) -> None:
    """`found` in place of `gone`, under its name."""
    for consumer in list(gone.outputs):
        for slot, each in enumerate(consumer.inputs):
            if each is gone:
                consumer.inputs[slot] = found
    graph.outputs = [found if each is gone else each for each in graph.outputs]
    gone.inputs.clear()
    found.name, found.dtype, found.shape = gone.name, gone.dtype, gone.shape
