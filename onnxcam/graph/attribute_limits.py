"""The values that the ONNX specification allows for attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnxcam.graph.operators import traits_of
from onnxcam.graph.window import MAX_SPAN

POSITIVE = {
    *("group", "offset_group", "strides", "dilations", "kernel_shape", "size", "blocksize", "p"),
    *("num_outputs", "num_groups", "hidden_size", "output_height", "output_width", "pooled_shape"),
    *("num_heads", "q_num_heads", "kv_num_heads", "chunk_size", "sample_size"),
}
INTEGERS_BELOW_LIMIT = {*POSITIVE, "pads", "output_padding", "sampling_ratio", "batch_dims"}
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
AXIS_MAY_EQUAL_RANK = {"Flatten", "OneHot", "Unsqueeze"}  # their axis may be one past the last


def allowed_values(node: gs.Node, name: str, value: Any) -> str | None:
    """The values allowed for an attribute if it has another value, else None."""
    if name == "mode" and node.op in MODES and value not in MODES[node.op]:
        return _join_alternatives(MODES[node.op])
    if name in CHOICES and value not in CHOICES[name]:
        return _join_alternatives(CHOICES[name])
    if name in INTEGERS_BELOW_LIMIT and isinstance(value, (int, list)):
        numbers = value if isinstance(value, list) else [value]
        if name in POSITIVE and any(number < 1 for number in numbers):
            return "1 or more"
        if any(abs(number) > MAX_SPAN for number in numbers):
            return f"at most {MAX_SPAN}"
        if (
            (length := _required_length(node, name))
            and isinstance(value, list)
            and len(value) != length
        ):
            return f"{length} numbers"
    if name == "to" and value not in onnx.TensorProto.DataType.values():
        return "the number of an ONNX data type"
    return _expected_axis(node, name, value)


def _required_length(node: gs.Node, name: str) -> int | None:
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
    last = rank if node.op in AXIS_MAY_EQUAL_RANK else rank - 1
    if node.op == "Unsqueeze":
        last = rank + np.size(value) - 1
    is_inside = all(-last - 1 <= int(number) <= last for number in np.ravel(value))
    return None if is_inside else f"{-last - 1} to {last}"


def _join_alternatives(words: set[str]) -> str:
    return " or ".join(sorted(words))
