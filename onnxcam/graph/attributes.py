"""What a node was given beside its tensors, the same at every opset.

Axes, pads, ranges and sizes moved from attributes to inputs over the years under the same name; a
name asked for here is found in either place, and the schema's default where neither is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx
import onnx_graphsurgeon as gs

from onnxcam.arrays import Array
from onnxcam.graph.opset import schema_at, versions

RENAMED = {"constant_value": "value"}  # the name of an input that was an attribute before


def known_names(operator: str, domain: str = "") -> set[str]:
    """Every attribute and input that some version of the operator has."""
    found: set[str] = set()
    for schema in versions(operator, domain):
        found |= schema.attributes.keys() | {each.name for each in schema.inputs}
    return found


def arguments(node: gs.Node, names: Iterable[str], opset: int) -> dict[str, Any]:
    """The named arguments of a node: plain Python values, arrays, or the gs.Variable where an input
    is not constant; None where nothing is given and there is no default.
    """
    return {name: argument(node, name, opset) for name in names}


def argument(node: gs.Node, name: str, opset: int) -> Any:
    """One argument by its newest name. See `arguments`."""
    old = RENAMED.get(name, name)
    if name in node.attrs or old in node.attrs:
        return _plain(node.attrs.get(name, node.attrs.get(old)))
    schema = schema_at(node.op, opset, node.domain or "")
    if schema is None:
        return None
    slot = next((i for i, each in enumerate(schema.inputs) if each.name == name), None)
    if slot is not None:
        return _given(node, slot)
    attribute = schema.attributes.get(name) or schema.attributes.get(old)
    if attribute is None or not attribute.default_value.name:
        return None
    return _plain(onnx.helper.get_attribute_value(attribute.default_value))


def _given(node: gs.Node, slot: int) -> Array | gs.Variable | None:
    if slot >= len(node.inputs) or node.inputs[slot].is_empty():
        return None
    tensor = node.inputs[slot]
    return tensor.values if isinstance(tensor, gs.Constant) else tensor


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value.values if isinstance(value, gs.Constant) else value
