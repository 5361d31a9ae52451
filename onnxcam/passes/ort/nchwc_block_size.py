"""The size of the channel blocks in models that ONNX Runtime optimized for one kind of processor (NCHWc).

The files do not state it. It follows from the shapes of constants, or else from the processor of this machine.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx

from onnxcam.passes.ort.registry import NCHWC

SMALL, LARGE = 8, 16
# the target of the Reshape that splits off the axis of a block, before the block size
SPLIT_TARGET = [0, -1, 0, 0]
LARGE_WITH = {"X86_V4", "AVX512F", "AVX512_SKX"}  # NumPy's names of processor features


def set_nchwc_block_size(graph: onnx.GraphProto) -> str | None:
    """Set the attribute `block` of every NCHWc operator, in place. Returns a notice for the user if the block
    size does not follow from the file, so that the one of this machine is assumed.
    """
    nodes = [node for node in graph.node if node.domain == NCHWC]
    if not nodes or any(attribute.name == "block" for attribute in nodes[0].attribute):
        return None
    size = _size_from_reshapes(graph) or _size_from_channels(graph)
    for node in graph.node:
        if node.domain == NCHWC:  # there may be more of them now
            block = onnx.helper.make_attribute("block", size or _size_on_this_machine())
            node.attribute.append(block)
    if size is not None:
        return None
    return (
        "the model was optimized for one kind of processor, and the kind of this machine is assumed; "
        "save it at the level ORT_ENABLE_EXTENDED to be sure"
    )


def _size_from_reshapes(graph: onnx.GraphProto) -> int | None:
    """The size of the axis that a Reshape splits off a blocked tensor, so that the runtime can broadcast to it.

    Such a Reshape means something else on a standard tensor: it becomes `SplitBlocks`, and the one that undoes
    it `MergeBlocks`, in place (see `nchwc_ops`).
    """
    targets = {
        tensor.name: onnx.numpy_helper.to_array(tensor).tolist()
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.INT64 and list(tensor.dims) in ([4], [5])
    }
    split: set[str] = set()  # names of tensors with an axis of blocks
    size = None
    for node in graph.node:
        target = targets.get(node.input[1]) if node.op_type == "Reshape" else None
        if target in ([*SPLIT_TARGET, SMALL], [*SPLIT_TARGET, LARGE]):
            node.op_type, node.domain, size = "SplitBlocks", NCHWC, target[-1]
            split |= set(node.output)
        elif target == SPLIT_TARGET and node.input[0] in split:
            node.op_type, node.domain = "MergeBlocks", NCHWC
        elif node.op_type != "Reshape" and split & set(node.input):
            split |= set(node.output)
    return size


def _size_from_channels(graph: onnx.GraphProto) -> int | None:
    """The only block size that is possible with some number of channels; None if both are."""
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    convolutions = [
        (shapes[node.input[1]], _int_attribute(node, "group", 1))
        for node in graph.node
        if node.domain == NCHWC and node.op_type == "Conv" and node.input[1] in shapes
    ]
    if any(shape[0] % LARGE for shape, _ in convolutions):
        return SMALL
    if any(group == 1 and SMALL < shape[1] < LARGE for shape, group in convolutions):
        return LARGE
    return LARGE if any(count >= SMALL for count in _padded_channels(graph, shapes)) else None


def _padded_channels(graph: onnx.GraphProto, shapes: dict[str, list[int]]) -> Iterator[int]:
    """How many channels every ReorderOutput drops of those that a Conv before it writes. Only the first inputs
    of the operators between them are followed.
    """
    producers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.domain != NCHWC or node.op_type != "ReorderOutput":
            continue
        source: onnx.NodeProto | None = node
        while source is not None and not (source.domain == NCHWC and source.op_type == "Conv"):
            continues = source.input and source.op_type != "Concat"
            source = producers.get(source.input[0]) if continues else None
        if source is not None and source.input[1] in shapes:
            yield shapes[source.input[1]][0] - _int_attribute(node, "channels", 0)


def _int_attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    values = (int(attribute.i) for attribute in node.attribute if attribute.name == name)
    return next(values, default)


def _size_on_this_machine() -> int:
    if platform.machine().lower() in ("aarch64", "arm64"):
        return LARGE
    config: Any = np.show_config(mode="dicts")
    simd = config.get("SIMD Extensions", {})
    return LARGE if LARGE_WITH & {*simd.get("found", ()), *simd.get("baseline", ())} else SMALL
