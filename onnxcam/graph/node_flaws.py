"""What makes a node invalid, in words: called after a failure, to distinguish a broken model from a bug in
onnxcam. In doubt, ONNX Runtime decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import defs, numpy_helper
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from onnxcam.graph.attribute_limits import allowed_values
from onnxcam.graph.opset import IR_VERSION, versions
from onnxcam.graph.shape_conflicts import describe_conflicts
from onnxcam.graph.shape_inference import type_proto

OPTIONAL = defs.OpSchema.FormalParameterOption.Optional

MAX_CONSTANT_BYTES = 1 << 20  # bytes of a constant that ONNX Runtime gets
TYPE_TESTS: dict[str, Callable[[Any], bool]] = {
    "INT": lambda value: isinstance(value, int),
    "FLOAT": lambda value: isinstance(value, float),
    "STRING": lambda value: isinstance(value, str),
    "INTS": lambda value: _is_list_of(value, int),
    "FLOATS": lambda value: _is_list_of(value, float),
    "STRINGS": lambda value: _is_list_of(value, str),
    "TENSOR": lambda value: not isinstance(value, (int, float, str, list, gs.Graph)),
    "GRAPH": lambda value: isinstance(value, gs.Graph),
}


def describe_flaw(node: gs.Node, graph: gs.Graph | None = None) -> str | None:
    """What is wrong with a node, as the end of a sentence that begins with its name; None if no flaw is known.
    With its `graph`, ONNX Runtime checks the node, too.
    """
    schemas = versions(node.op, "" if node.domain in (None, "ai.onnx") else node.domain)
    if not schemas and not node.domain:
        return "is not an ONNX operator"
    flaws = (
        *_flaws_of_inputs(node, schemas),
        *_flaws_of_attributes(node, schemas),
        *describe_conflicts(node),
    )
    if flaws or graph is None:
        return next(iter(flaws), None)
    try:
        return _runtime_refusal(node, graph)
    except Exception:  # noqa: BLE001  the node cannot be written; its first error counts
        return None


def _flaws_of_inputs(node: gs.Node, schemas: list[defs.OpSchema]) -> Iterator[str]:
    count = len(node.inputs)
    if not schemas:
        return
    fewest = min(schema.min_input for schema in schemas)
    most = max(schema.max_input for schema in schemas)
    if not fewest <= count <= most:
        yield f"has {count} inputs, expected {fewest} to {most}"
    for slot, tensor in enumerate(node.inputs):
        parameters = [
            schema.inputs[min(slot, len(schema.inputs) - 1)] for schema in schemas if schema.inputs
        ]
        if (
            parameters
            and tensor.is_empty()
            and all(parameter.option != OPTIONAL for parameter in parameters)
        ):
            yield f"is missing its input {parameters[-1].name!r}"
    numbers = [t.values.size for t in node.inputs[1:4] if isinstance(t, gs.Constant)]
    if node.op == "Slice" and len(set(numbers)) > 1:
        yield "has starts, ends, and axes of different lengths"
    steps = node.inputs[4] if node.op == "Slice" and count > 4 else None
    if isinstance(steps, gs.Constant) and not np.all(steps.values):
        yield "has 0 in its input 'steps', expected any other number"


def _flaws_of_attributes(node: gs.Node, schemas: list[defs.OpSchema]) -> Iterator[str]:
    attributes = {
        name: attribute for schema in schemas for name, attribute in schema.attributes.items()
    }
    for name in attributes:
        if name not in node.attrs and _is_required(name, schemas):
            yield f"is missing its attribute {name!r}"
    for name, value in node.attrs.items():
        if schemas and name not in attributes:
            yield f"has the unknown attribute {name!r}"
            continue
        expected = str(attributes[name].type).rpartition(".")[2] if schemas else ""
        if expected in TYPE_TESTS and not TYPE_TESTS[expected](value):
            yield f"attribute {name!r} is {_abbreviate(value)}, expected {expected}"
            continue
        if (allowed := allowed_values(node, name, value)) is not None:
            yield f"attribute {name!r} is {_abbreviate(value)}, expected {allowed}"


def _is_required(name: str, schemas: list[defs.OpSchema]) -> bool:
    newest = schemas[-1].attributes
    return name in newest and bool(newest[name].required)


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(number, kind) for number in value)


def _abbreviate(value: Any) -> str:
    text = repr(value) if isinstance(value, (int, float, str, list)) else type(value).__name__
    return text if len(text) < 60 else f"{text[:57]}..."


def _runtime_refusal(node: gs.Node, graph: gs.Graph) -> str | None:
    """Why ONNX Runtime does not open a model of this node alone; None if it does, or the types are unknown."""
    from onnxcam.runtime.session import refusal

    types = {tensor.name: type_proto(tensor) for tensor in node.inputs if not tensor.is_empty()}
    if not node.outputs or None in types.values():
        return None
    constants = {t.name: t for t in node.inputs if isinstance(t, gs.Constant) and _is_small(t)}
    node_graph = onnx.helper.make_graph(
        [OnnxExporter.export_node(node)],
        "node",
        [onnx.helper.make_value_info(n, t) for n, t in types.items() if n not in constants],
        [onnx.helper.make_empty_tensor_value_info(t.name) for t in node.outputs if t.name],
        [numpy_helper.from_array(t.values, name) for name, t in constants.items()],
    )
    domains = graph.import_domains
    model = onnx.helper.make_model(node_graph, opset_imports=domains, ir_version=IR_VERSION)
    reason = refusal(model.SerializeToString())
    return None if reason is None else f"is rejected by ONNX Runtime ({reason})"


def _is_small(tensor: gs.Constant) -> bool:
    return int(np.prod(tensor.shape)) * 8 <= MAX_CONSTANT_BYTES
