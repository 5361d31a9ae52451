"""What an operator looks like at an opset, and raising a model to a newer one where a rule needs it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from onnx import defs

from onnxcam.errors import ModelError, NeedsOpsetError, first_line

NEWEST = (
    23  # the newest opset that a model is raised to; every version up to here runs in ONNX Runtime
)
IR_VERSION = 10  # of small models made here: every supported ONNX Runtime takes it


def type_name(dtype: np.dtype[Any] | int) -> str:
    """The schema's word for a dtype: float32 -> 'tensor(float)'."""
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
    for schema in sorted(defs.get_all_schemas_with_history(), key=lambda each: each.since_version):
        table.setdefault((schema.domain, schema.name), []).append(schema)
    return table


def schema_at(operator: str, opset: int, domain: str = "") -> defs.OpSchema | None:
    """The schema of an operator at an opset of its domain, None where it does not exist."""
    fitting = [each for each in versions(operator, domain) if each.since_version <= opset]
    return fitting[-1] if fitting else None


@lru_cache(maxsize=4096)
def schema_accepting(
    operator: str, opset: int, types: tuple[str | None, ...], attributes: frozenset[str]
) -> defs.OpSchema:
    """The schema at `opset`, if it takes these input types and attributes.

    NeedsOpsetError with the first newer opset that takes them; ValueError where none does, which is
    a mistake in a rule.
    """
    current = schema_at(operator, opset)
    if current is not None and _takes(current, types, attributes):
        return current
    for newer in versions(operator):
        if opset < newer.since_version <= NEWEST and _takes(newer, types, attributes):
            raise NeedsOpsetError(operator, newer.since_version)
    raise ValueError(f"no version of {operator} takes {types} and {sorted(attributes)}")


def _takes(
    schema: defs.OpSchema, types: tuple[str | None, ...], attributes: frozenset[str]
) -> bool:
    if (
        not schema.min_input <= len(types) <= schema.max_input
        or not attributes <= schema.attributes.keys()
    ):
        return False
    formal = list(schema.inputs)
    constraints = {each.type_param_str: each.allowed_type_strs for each in schema.type_constraints}
    pairs = zip(types, formal + formal[-1:] * len(types), strict=False)
    return all(
        given is None or given in constraints.get(slot.type_str, [slot.type_str])
        for given, slot in pairs
    )


def upgrade_opset(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The same model at a newer opset of the default domain, tensor names kept.

    onnx's converter is right but for what is mended or refused here: it leaves Resize-10 and
    Upsample without the coordinate mode that their old versions meant, and drops the flattening of
    Hardmax below 13.
    """
    nodes = proto.graph.node
    old = next(each.version for each in proto.opset_import if each.domain in ("", "ai.onnx"))
    asymmetric = old < 11 and {
        each.output[0] for each in nodes if each.op_type in ("Resize", "Upsample")
    }
    if old < 13 and any(each.op_type == "Hardmax" for each in nodes):
        raise ModelError(f"a Hardmax of opset {old} cannot be raised to {opset}: export it newer")
    try:
        converted = onnx.version_converter.convert_version(proto, opset)
    except Exception as fault:
        raise ModelError(
            f"the model cannot be raised from opset {old} to {opset}, which a gradient rule needs "
            f"({first_line(fault)}); "
            f"export it with opset {opset} or newer"
        ) from fault
    for node in converted.graph.node:
        if asymmetric and opset >= 11 and node.output[0] in asymmetric:
            _mean_asymmetric(node, _shrinks(node, proto))
    converted.ir_version = max(proto.ir_version, 8 if opset > 14 else 4)
    return converted


def _shrinks(node: onnx.NodeProto, proto: onnx.ModelProto) -> bool:
    """Whether an old Resize was given scales, known now, of which one is below 1."""
    weights = {each.name: each for each in proto.graph.initializer}
    return any(
        bool((onnx.numpy_helper.to_array(weights[name]) < 1).any())
        for name in node.input[1:]
        if name in weights and weights[name].data_type == onnx.TensorProto.FLOAT
    )


def _mean_asymmetric(node: onnx.NodeProto, shrinks: bool) -> None:
    """What Upsample and Resize-10 meant. ONNX Runtime rounds up where the old Resize shrinks."""
    kept = [a for a in node.attribute if a.name == "mode"]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.append(
        onnx.helper.make_attribute("coordinate_transformation_mode", "asymmetric")
    )
    node.attribute.append(
        onnx.helper.make_attribute("nearest_mode", "ceil" if shrinks else "floor")
    )
