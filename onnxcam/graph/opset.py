"""Schemas of operators at an opset, and upgrading a model to an opset that a rule needs."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from onnx import defs

from onnxcam.errors import ModelError, NeedsOpsetError, first_line

NEWEST = 23  # the newest opset that a model is upgraded to: ONNX Runtime runs all up to here
IR_VERSION = 10  # of small models that are written here: every supported ONNX Runtime opens it


def type_name(dtype: np.dtype[Any] | int) -> str:
    """The name of a dtype in schemas: float32 -> 'tensor(float)'."""
    return f"tensor({onnx.TensorProto.DataType.Name(type_code(dtype)).lower()})"


def type_code(dtype: np.dtype[Any] | int) -> int:
    """The number of an ONNX type: float32 -> 1."""
    return dtype if isinstance(dtype, int) else int(onnx.helper.np_dtype_to_tensor_dtype(dtype))


def versions(operator: str, domain: str = "") -> list[defs.OpSchema]:
    """All versions of an operator's schema, the oldest first; empty for an unknown operator."""
    return _history().get((domain, operator), [])


@lru_cache(maxsize=1)
def _history() -> dict[tuple[str, str], list[defs.OpSchema]]:
    table: dict[tuple[str, str], list[defs.OpSchema]] = {}
    for schema in sorted(
        defs.get_all_schemas_with_history(), key=lambda schema: schema.since_version
    ):
        table.setdefault((schema.domain, schema.name), []).append(schema)
    return table


def schema_at(operator: str, opset: int, domain: str = "") -> defs.OpSchema | None:
    """The schema of an operator at an opset of its domain, None where it does not exist."""
    older = [schema for schema in versions(operator, domain) if schema.since_version <= opset]
    return older[-1] if older else None


@lru_cache(maxsize=4096)
def schema_accepting(
    operator: str, opset: int, types: tuple[str | None, ...], attributes: frozenset[str]
) -> defs.OpSchema:
    """The schema at `opset`, if it accepts these input types and attributes.

    NeedsOpsetError with the first newer opset that accepts them; ValueError if none does, which is
    a mistake in a rule.
    """
    current = schema_at(operator, opset)
    if current is not None and _accepts(current, types, attributes):
        return current
    for newer in versions(operator):
        if opset < newer.since_version <= NEWEST and _accepts(newer, types, attributes):
            raise NeedsOpsetError(operator, newer.since_version)
    raise ValueError(f"no version of {operator} accepts {types} and {sorted(attributes)}")


def _accepts(
    schema: defs.OpSchema, types: tuple[str | None, ...], attributes: frozenset[str]
) -> bool:
    if (
        not schema.min_input <= len(types) <= schema.max_input
        or not attributes <= schema.attributes.keys()
    ):
        return False
    formal = list(schema.inputs)
    constraints = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    pairs = zip(types, formal + formal[-1:] * len(types), strict=False)
    return all(
        type_ is None or type_ in constraints.get(parameter.type_str, [parameter.type_str])
        for type_, parameter in pairs
    )


def upgrade_opset(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The same model at a newer opset of the default domain, with the same tensor names.

    Two mistakes of onnx's converter are corrected or refused here: it leaves Resize-10 and Upsample without
    the coordinate mode that their old versions implied, and drops the flattening of Hardmax below 13.
    """
    nodes = proto.graph.node
    old = next(
        opset_id.version for opset_id in proto.opset_import if opset_id.domain in ("", "ai.onnx")
    )
    asymmetric = old < 11 and {
        node.output[0] for node in nodes if node.op_type in ("Resize", "Upsample")
    }
    if old < 13 and any(node.op_type == "Hardmax" for node in nodes):
        raise ModelError(
            f"Hardmax of opset {old} cannot be upgraded to opset {opset}; "
            f"export the model with opset {opset} or newer"
        )
    try:
        converted = onnx.version_converter.convert_version(proto, opset)
    except Exception as error:
        raise ModelError(
            f"the model cannot be upgraded from opset {old} to {opset} "
            f"({first_line(error)}); "
            f"export it with opset {opset} or newer"
        ) from error
    for node in converted.graph.node:
        if asymmetric and opset >= 11 and node.output[0] in asymmetric:
            _set_asymmetric(node, _shrinks(node, proto))
    converted.ir_version = max(proto.ir_version, 8 if opset > 14 else 4)
    return converted


def _shrinks(node: onnx.NodeProto, proto: onnx.ModelProto) -> bool:
    """Whether an old Resize has constant scales one of which is below 1."""
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    return any(
        bool((onnx.numpy_helper.to_array(weights[name]) < 1).any())
        for name in node.input[1:]
        if name in weights and weights[name].data_type == onnx.TensorProto.FLOAT
    )


def _set_asymmetric(node: onnx.NodeProto, shrinks: bool) -> None:
    """Write the modes that Upsample and Resize-10 implied, in place. ONNX Runtime rounds up if they shrink."""
    mode = [a for a in node.attribute if a.name == "mode"]
    del node.attribute[:]
    node.attribute.extend(mode)
    node.attribute.append(
        onnx.helper.make_attribute("coordinate_transformation_mode", "asymmetric")
    )
    node.attribute.append(
        onnx.helper.make_attribute("nearest_mode", "ceil" if shrinks else "floor")
    )
