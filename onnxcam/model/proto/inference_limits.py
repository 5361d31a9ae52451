"""Reject what would crash ONNX's shape inference, or keep it busy forever.

The inference does not check the axis of LayerNormalization or the batch_dims of GatherND, hangs at a control
character in the equation of an Einsum, makes a list of as many sizes as a Split declares, and computes shapes
that a chain of Concat doubles again and again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import onnx
from onnx import TensorProto, defs, numpy_helper

from onnxcam.errors import ModelError
from onnxcam.model.proto.walk import Scope, describe_node

MAX_RANK = 64  # of NumPy's arrays
MAX_OUTPUTS = 1 << 16
MAX_SKIP = 1 << 16  # words that an n-gram of TfIdfVectorizer may skip
MAX_ITERATIONS = 1 << 24  # of a loop whose condition never ends it
MAX_SHAPE_LENGTH = 1 << 16  # of a shape that is computed while shapes are inferred
AXIS_ATTRIBUTES = {"axis", "axes", "batch_axis", "time_axis", "batch_dims", "perm"}
AXIS_ATTRIBUTES |= {"scan_input_axes", "scan_output_axes"}
NUMBER_TYPES = {TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT}
NUMBER_TYPES |= {TensorProto.DOUBLE, TensorProto.BOOL}
RANDOM_VECTORS = {"RandomNormal", "RandomUniform"}
FLAGS = {  # a value other than 0 and 1 means different things to ONNX, ONNX Runtime and others
    *("align_corners", "allowzero", "antialias", "ceil_mode", "center_point_box"),
    *("count_include_pad", "exclude_outside", "exclusive", "input_forget", "interleaved"),
    *("is_causal", "keepdims", "largest", "layout", "linear_before_reset", "noop_with_empty_axes"),
    *("periodic", "reverse", "saturate", "select_last_index", "sorted", "storage_order"),
    *("training_mode", "transA", "transB"),
}
EQUATION = re.compile(rb"[A-Za-z., >-]*")


def check_attributes(scopes: Iterable[Scope], name: str) -> None:
    """ModelError for an axis, a count or an equation that no operator can have."""
    for scope in scopes:
        for node in scope.node:
            for attribute in node.attribute:
                if problem := _attribute_problem(node, attribute):
                    raise ModelError(
                        f"{name}: not a valid ONNX model ({describe_node(node)}: the attribute "
                        f"{attribute.name} {problem}); export it again"
                    )


def _attribute_problem(node: onnx.NodeProto, attribute: onnx.AttributeProto) -> str:
    """What is wrong with an attribute; empty if nothing is."""
    numbers = [attribute.i, *attribute.ints]
    if attribute.name in AXIS_ATTRIBUTES:
        invalid = [number for number in numbers if abs(number) > MAX_RANK]
        if invalid or len(attribute.ints) > MAX_RANK:
            return f"names axis {invalid[0]}" if invalid else f"names {len(attribute.ints)} axes"
    if attribute.name == "batch_dims" and attribute.i < 0:
        return f"is {attribute.i}, expected 0 or more"
    if attribute.name == "num_outputs" and not len(node.output) <= attribute.i <= MAX_OUTPUTS:
        return f"is {attribute.i}; the node has {len(node.output)} outputs"
    if attribute.name == "max_skip_count" and attribute.i > MAX_SKIP:
        return f"is {attribute.i}, expected at most {MAX_SKIP}"
    if attribute.name in FLAGS and not node.domain and attribute.i not in (0, 1):
        return f"is {attribute.i}, expected 0 or 1"
    if node.op_type.startswith("Random") and attribute.name in ("scale", "low", "high"):
        return _random_problem(node, attribute)
    if (node.op_type, attribute.name) == ("Einsum", "equation"):
        if (terms := attribute.s.split(b"->")[0].count(b",") + 1) != len(node.input):
            return f"names {terms} operands; the node has {len(node.input)}"
        return (
            ""
            if EQUATION.fullmatch(attribute.s)
            else "has characters other than letters, ',', '.' and '->'"
        )
    return ""


def check_loops(scopes: Iterable[Scope], name: str) -> None:
    """ModelError for a loop that never ends: ONNX Runtime would run it until the process is killed."""
    for scope in scopes:
        numbers = _scalar_constants(scope, "Loop")
        for node in scope.node:
            if node.op_type == "Loop" and not node.domain and _is_endless(node, numbers):
                raise ModelError(
                    f"{name}: not a valid ONNX model ({describe_node(node)}: its loop does not end within "
                    f"{MAX_ITERATIONS} iterations); correct the model and export it again"
                )


def _is_endless(node: onnx.NodeProto, numbers: dict[str, float | None]) -> bool:
    """Whether a loop has a condition that never changes, and no count or one that is too large."""
    count, condition = (node.input[slot] if slot < len(node.input) else "" for slot in (0, 1))
    iterations = numbers.get(count) if count else math.inf
    first_condition = numbers.get(condition) if condition else 1
    if iterations is None or iterations <= MAX_ITERATIONS or first_condition == 0:
        return False
    (body,) = [a.g for a in node.attribute if a.name == "body"] or [onnx.GraphProto()]
    if len(body.input) < 2 or not body.output:
        return False
    producers = {inner.output[0]: inner for inner in body.node if inner.output}
    constants = {tensor.name: _scalar(tensor) for tensor in body.initializer}
    constants |= {key: number for inner in body.node for key, number in _scalar_of_constant(inner)}
    loop_condition = body.output[0].name
    while loop_condition in producers and producers[loop_condition].op_type == "Identity":
        loop_condition = producers[loop_condition].input[0]
    return loop_condition == body.input[1].name or bool(constants.get(loop_condition))


def _scalar_of_constant(node: onnx.NodeProto) -> list[tuple[str, float | None]]:
    """The output of a Constant node with its only number, as a list of one pair; empty for other nodes."""
    if node.op_type != "Constant" or node.domain:
        return []
    return [(node.output[0], _scalar(a.t)) for a in node.attribute if a.name == "value"]


def _random_problem(node: onnx.NodeProto, attribute: onnx.AttributeProto) -> str:
    """What is wrong with the limits of random numbers: ONNX Runtime would end the process."""
    if node.op_type.startswith("RandomNormal"):
        return "" if attribute.f > 0 else f"is {attribute.f}, expected more than 0"
    limits = {"low": 0.0, "high": 1.0} | {setting.name: setting.f for setting in node.attribute}
    low, high = limits["low"], limits["high"]
    return "" if low <= high else f"is {attribute.f}, expected low {low} <= high {high}"


def has_short_shapes(graph: onnx.GraphProto) -> bool:
    """Whether the shapes that the graph computes stay short enough for the inference to compute them."""
    lengths = {
        tensor.name: tensor.dims[0] if tensor.dims else 1
        for tensor in graph.initializer
        if len(tensor.dims) < 2
        and tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
    }
    lengths.update((tensor.name, _declared_length(tensor)) for tensor in graph.input)
    numbers = {
        operator: _scalar_constants(graph, operator) for operator in ("Range", "ConstantOfShape")
    }
    for node in graph.node:
        length = _max_length(node, [lengths.get(name, 0) for name in node.input])
        if node.op_type in numbers and not node.domain:
            operands = [numbers[node.op_type].get(name) for name in node.input]
            is_range = node.op_type == "Range"
            length = _range_length(operands) if is_range else int((operands or [0])[0] or 0)
        if length > MAX_SHAPE_LENGTH:
            return False
        lengths.update((name, length) for name in node.output)
    return True


def _max_length(node: onnx.NodeProto, lengths: list[int]) -> int:
    """How many numbers a node of shape arithmetic may output for inputs of these lengths; 0 for other nodes."""
    if node.domain or not defs.has(node.op_type):
        return 0
    if node.op_type in RANDOM_VECTORS:
        shape = next((list(a.ints) for a in node.attribute if a.name == "shape"), [])
        return int(shape[0]) if len(shape) == 1 else 0
    if not lengths:
        return 0
    if node.op_type == "Shape":
        return MAX_RANK
    if not defs.get_schema(node.op_type).has_data_propagation_function:
        return 0
    if node.op_type == "Gather":
        return lengths[-1] or lengths[0]
    return sum(lengths) if node.op_type == "Concat" else max(lengths)


def _declared_length(tensor: onnx.ValueInfoProto) -> int:
    """How many numbers an input with one axis has; 0 if that is unknown."""
    dims = tensor.type.tensor_type.shape.dim
    return int(dims[0].dim_value) if len(dims) == 1 else 0


def _scalar_constants(scope: Scope, operator: str) -> dict[str, float | None]:
    """The constants that are one number, by name; empty for a graph without `operator`, which reads them."""
    if all(node.op_type != operator for node in scope.node):
        return {}
    constants = scope.initializer if isinstance(scope, onnx.GraphProto) else ()
    numbers = {tensor.name: _scalar(tensor) for tensor in constants}
    for node in scope.node:
        numbers.update(_scalar_of_constant(node))
    return numbers


def _scalar(tensor: onnx.TensorProto) -> float | None:
    """The number in a constant; None if it has several, or another type."""
    if math.prod(tensor.dims) != 1 or tensor.data_type not in NUMBER_TYPES:
        return None
    return float(numpy_helper.to_array(tensor).ravel()[0])


def _range_length(operands: list[float | None]) -> int:
    """How many numbers a Range outputs; 0 if that is unknown."""
    numbers = [number for number in operands if number is not None]
    if len(numbers) != len(("start", "limit", "delta")) or not numbers[2]:
        return 0
    start, limit, delta = numbers
    steps = (limit - start) / delta
    return 0 if math.isnan(steps) else int(min(max(steps, 0), MAX_SHAPE_LENGTH + 1))
