"""How long the blocks are that ONNX Runtime's layout optimisation stored channels in."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx

from onnxcam.passes.ort.registry import NCHWC

SMALL, LARGE = 8, 16
INTO = [0, -1, 0, 0]  # the target of a Reshape of blocks, in front of their length
LARGE_ON = {"X86_V4", "AVX512F", "AVX512_SKX"}  # NumPy's names of what a processor has


def set_nchwc_block_size(graph: onnx.GraphProto) -> str | None:
    """Tell every operator of the domain how long a block is, in place. A sentence for the user where the file
    does not say, so that it is taken to be made for processors like this one.
    """
    nodes = [each for each in graph.node if each.domain == NCHWC]
    if not nodes or any(each.name == "block" for each in nodes[0].attribute):
        return None
    size = _by_cells(graph) or _by_channels(graph)
    for node in [each for each in graph.node if each.domain == NCHWC]:
        node.attribute.append(onnx.helper.make_attribute("block", size or _of_this_processor()))
    if size is not None:
        return None
    return (
        "the model was optimised for one kind of processor, and is read as made for this one; "
        "save it at the level ORT_ENABLE_EXTENDED to be sure"
    )


def _by_cells(graph: onnx.GraphProto) -> int | None:
    """The length of the axis where blocks are shown as one. The operators that show and hide it, which are
    written as Reshapes of blocked tensors, are given names of their own.
    """
    targets = {
        each.name: onnx.numpy_helper.to_array(each).tolist()
        for each in graph.initializer
        if each.data_type == onnx.TensorProto.INT64 and list(each.dims) in ([4], [5])
    }
    shown: set[str] = set()
    found = None
    for node in graph.node:
        target = targets.get(node.input[1]) if node.op_type == "Reshape" else None
        if target in ([*INTO, SMALL], [*INTO, LARGE]):
            node.op_type, node.domain, found = "IntoCells", NCHWC, target[-1]
            shown |= set(node.output)
        elif target == INTO and node.input[0] in shown:
            node.op_type, node.domain = "OutOfCells", NCHWC
        elif node.op_type != "Reshape" and shown & set(node.input):
            shown |= set(node.output)
    return found


def _by_channels(graph: onnx.GraphProto) -> int | None:
    """The length of a block where some number of channels allows no other."""
    kernels = {each.name: list(each.dims) for each in graph.initializer}
    convolutions = [
        (kernels[each.input[1]], _attribute(each, "group", 1))
        for each in graph.node
        if each.domain == NCHWC and each.op_type == "Conv" and each.input[1] in kernels
    ]
    if any(shape[0] % LARGE for shape, _ in convolutions):
        return SMALL
    if any(group == 1 and SMALL < shape[1] < LARGE for shape, group in convolutions):
        return LARGE
    return LARGE if any(each >= SMALL for each in _filled(graph, kernels)) else None


def _filled(graph: onnx.GraphProto, kernels: dict[str, list[int]]) -> Iterator[int]:
    """How many channels are cut off where blocks are given up, as far back as one input leads."""
    makers = {name: each for each in graph.node for name in each.output}
    for node in graph.node:
        if node.domain != NCHWC or node.op_type != "ReorderOutput":
            continue
        maker: onnx.NodeProto | None = node
        while maker is not None and not (maker.domain == NCHWC and maker.op_type == "Conv"):
            maker = (
                makers.get(maker.input[0]) if maker.input and maker.op_type != "Concat" else None
            )
        if maker is not None and maker.input[1] in kernels:
            yield kernels[maker.input[1]][0] - int(_attribute(node, "channels", 0))


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((each.i for each in node.attribute if each.name == name), default)


def _of_this_processor() -> int:
    if platform.machine().lower() in ("aarch64", "arm64"):
        return LARGE
    known: Any = np.show_config(mode="dicts")
    found = known.get("SIMD Extensions", {})
    return LARGE if LARGE_ON & {*found.get("found", ()), *found.get("baseline", ())} else SMALL
