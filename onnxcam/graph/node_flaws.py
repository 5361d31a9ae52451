"""What makes a node invalid, in words: called after a failure, to distinguish a broken model from a bug in
onnxcam. Ranges are those of the ONNX specification; in doubt, ONNX Runtime decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import defs, numpy_helper
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from onnxcam.graph.operators import traits_of
from onnxcam.graph.opset import IR_VERSION, versions
from onnxcam.graph.shape_conflicts import misfits
from onnxcam.graph.shape_inference import type_proto
from onnxcam.graph.window import LONGEST

OPTIONAL = defs.OpSchema.FormalParameterOption.Optional

SMALL = 1 << 20  # bytes of a constant that ONNX Runtime gets
POSITIVE = {
    *("group", "offset_group", "strides", "dilations", "kernel_shape", "size", "blocksize", "p"),
    *("num_outputs", "num_groups", "hidden_size", "output_height", "output_width", "pooled_shape"),
    *("num_heads", "q_num_heads", "kv_num_heads", "chunk_size", "sample_size"),
}
COUNTED = {*POSITIVE, "pads", "output_padding", "sampling_ratio", "batch_dims"}
CHOICES = {
    "auto_pad": {"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"},
    "padding_mode": {"zeros", "border", "reflection"},
    "reduction": {"none", "add", "mul", "max", "min", "mean", "sum"},
    "approximate": {"none", "tanh"},
    "nearest_mode": {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"},
    "direction": {"forward", "reverse", "bidirectional", "LEFT", "RIGHT"},
    "keep_aspect_ratio_policy": {"stretch", "not_larger", "not_smaller"},
    "coordinate_transformation_mode": {
        *("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners"),
        *("asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize", "output_half_pixel"),
    },
}
MODES = {
    "GridSample": {"linear", "nearest", "cubic", "bilinear", "bicubic"},
    "Resize": {"nearest", "linear", "cubic"},
    "Upsample": {"nearest", "linear"},
    "Pad": {"constant", "reflect", "edge", "wrap"},
    "RoiAlign": {"avg", "max"},
    "DepthToSpace": {"DCR", "CRD"},
}
ONE_BEYOND = {"Flatten", "OneHot", "Unsqueeze"}  # their axis may be one past the last
KINDS: dict[str, Callable[[Any], bool]] = {
    "INT": lambda value: isinstance(value, int),
    "FLOAT": lambda value: isinstance(value, float),
    "STRING": lambda value: isinstance(value, str),
    "INTS": lambda value: _all(value, int),
    "FLOATS": lambda value: _all(value, float),
    "STRINGS": lambda value: _all(value, str),
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
        *misfits(node),
    )
    if flaws or graph is None:
        return next(iter(flaws), None)
    try:
        return _refusal(node, graph)
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
        formal = [
            schema.inputs[min(slot, len(schema.inputs) - 1)] for schema in schemas if schema.inputs
        ]
        if (
            formal
            and tensor.is_empty()
            and all(parameter.option != OPTIONAL for parameter in formal)
        ):
            yield f"is missing its input {formal[-1].name!r}"
    numbers = [t.values.size for t in node.inputs[1:4] if isinstance(t, gs.Constant)]
    if node.op == "Slice" and len(set(numbers)) > 1:
        yield "has starts, ends, and axes of different lengths"
    steps = node.inputs[4] if node.op == "Slice" and count > 4 else None
    if isinstance(steps, gs.Constant) and not np.all(steps.values):
        yield "has 0 in its input 'steps', expected any other number"


def _flaws_of_attributes(node: gs.Node, schemas: list[defs.OpSchema]) -> Iterator[str]:
    formal = {
        name: attribute for schema in schemas for name, attribute in schema.attributes.items()
    }
    for name in formal:
        if name not in node.attrs and _is_required(name, schemas):
            yield f"is missing its attribute {name!r}"
    for name, value in node.attrs.items():
        if schemas and name not in formal:
            yield f"has the unknown attribute {name!r}"
            continue
        expected = str(formal[name].type).rpartition(".")[2] if schemas else ""
        if expected in KINDS and not KINDS[expected](value):
            yield f"attribute {name!r} is {_shown(value)}, expected {expected}"
            continue
        if (violated := _expected(node, name, value)) is not None:
            yield f"attribute {name!r} is {_shown(value)}, expected {violated}"


def _is_required(name: str, schemas: list[defs.OpSchema]) -> bool:
    newest = schemas[-1].attributes
    return name in newest and bool(newest[name].required)


def _expected(node: gs.Node, name: str, value: Any) -> str | None:
    """The values allowed for an attribute if it has another value, else None."""
    if name == "mode" and node.op in MODES and value not in MODES[node.op]:
        return _listed(MODES[node.op])
    if name in CHOICES and value not in CHOICES[name]:
        return _listed(CHOICES[name])
    if name in COUNTED and isinstance(value, (int, list)):
        numbers = value if isinstance(value, list) else [value]
        if name in POSITIVE and any(number < 1 for number in numbers):
            return "1 or more"
        if any(abs(number) > LONGEST for number in numbers):
            return f"at most {LONGEST}"
        if (length := _length(node, name)) and isinstance(value, list) and len(value) != length:
            return f"{length} numbers"
    if name == "to" and value not in onnx.TensorProto.DataType.values():
        return "the number of an ONNX data type"
    return _expected_axis(node, name, value)


def _length(node: gs.Node, name: str) -> int | None:
    """How many numbers an attribute of a window must have, by the spatial axes; None if any."""
    shape = node.inputs[0].shape if traits_of(node).window and len(node.inputs) else None
    if shape is None or len(shape) < len("NC"):
        return None
    return (len(shape) - 2) * (2 if name == "pads" else 1)


def _expected_axis(node: gs.Node, name: str, value: Any) -> str | None:
    shape = node.inputs[0].shape if len(node.inputs) else None
    if shape is None:
        return None
    rank = len(shape)
    if name == "perm" and sorted(value) != list(range(rank)):
        return f"each number from 0 to {rank - 1} once"
    if name not in ("axis", "axes"):
        return None
    last = rank if node.op in ONE_BEYOND else rank - 1
    if node.op == "Unsqueeze":
        last = rank + np.size(value) - 1
    inside = all(-last - 1 <= int(number) <= last for number in np.ravel(value))
    return None if inside else f"{-last - 1} to {last}"


def _all(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(number, kind) for number in value)


def _listed(words: set[str]) -> str:
    return " or ".join(sorted(words))


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, (int, float, str, list)) else type(value).__name__
    return text if len(text) < 60 else f"{text[:57]}..."


def _refusal(node: gs.Node, graph: gs.Graph) -> str | None:
    """Why ONNX Runtime does not open a model of this node alone; None if it does, or the types are unknown."""
    from onnxcam.runtime.session import refusal

    types = {tensor.name: type_proto(tensor) for tensor in node.inputs if not tensor.is_empty()}
    if not node.outputs or None in types.values():
        return None
    constants = {t.name: t for t in node.inputs if isinstance(t, gs.Constant) and _is_small(t)}
    alone = onnx.helper.make_graph(
        [OnnxExporter.export_node(node)],
        "node",
        [onnx.helper.make_value_info(n, t) for n, t in types.items() if n not in constants],
        [onnx.helper.make_empty_tensor_value_info(t.name) for t in node.outputs if t.name],
        [numpy_helper.from_array(t.values, name) for name, t in constants.items()],
    )
    domains = graph.import_domains
    model = onnx.helper.make_model(alone, opset_imports=domains, ir_version=IR_VERSION)
    reason = refusal(model.SerializeToString())
    return None if reason is None else f"is refused by ONNX Runtime ({reason})"


def _is_small(tensor: gs.Constant) -> bool:
    return int(np.prod(tensor.shape)) * 8 <= SMALL
