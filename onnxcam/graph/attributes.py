"""Node attributes under one name at every opset.

Axes, pads, ranges and sizes were attributes of older opsets and are inputs of newer ones, under the same name.
Both are read here, and the schema's default where a node has neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx
import onnx_graphsurgeon as gs

from onnxcam.arrays import Array
from onnxcam.graph.opset import schema_at, versions

RENAMED = {"constant_value": "value"}  # an input and the attribute that it was before


def argument_names(operator: str, domain: str = "") -> set[str]:
    """Every attribute and input that some version of the operator has."""
    names: set[str] = set()
    for schema in versions(operator, domain):
        names |= schema.attributes.keys() | {formal.name for formal in schema.inputs}
    return names


def arguments(node: gs.Node, names: Iterable[str], opset: int) -> dict[str, Any]:
    """The named arguments of a node: Python values, arrays, or the gs.Variable of an input that is not
    constant; None for an argument that the node does not have and that has no default.
    """
    return {name: argument(node, name, opset) for name in names}


def argument(node: gs.Node, name: str, opset: int) -> Any:
    """One argument by its newest name; see `arguments`."""
    old = RENAMED.get(name, name)
    if name in node.attrs or old in node.attrs:
        return _to_python(node.attrs.get(name, node.attrs.get(old)))
    schema = schema_at(node.op, opset, node.domain or "")
    if schema is None:
        return None
    slot = next((i for i, formal in enumerate(schema.inputs) if formal.name == name), None)
    if slot is not None:
        return _input_value(node, slot)
    attribute = schema.attributes.get(name) or schema.attributes.get(old)
    if attribute is None or not attribute.default_value.name:
        return None
    return _to_python(onnx.helper.get_attribute_value(attribute.default_value))


def _input_value(node: gs.Node, slot: int) -> Array | gs.Variable | None:
    if slot >= len(node.inputs) or node.inputs[slot].is_empty():
        return None
    tensor = node.inputs[slot]
    return tensor.values if isinstance(tensor, gs.Constant) else tensor


def _to_python(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value.values if isinstance(value, gs.Constant) else value
