"""A file with the inputs, outputs and metadata of an embedded explanation, written node by node.

It computes a class activation map of the bundled model, which needs no gradient, so that tests of formats and
recipes do not depend on how `onnxcam embed` writes its graph.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from onnxcam.bundled import bundled_model
from onnxcam.embedding.metadata import EmbeddedExplanation, ScoreOutput, write_metadata
from onnxcam.image.preprocess import PRESETS
from onnxcam.model.load import load

CLASSES, SIDE, CELLS = 10, 112, 14
BODY = """
    scaled = Mul(numbers, by_255)
    planes = Transpose<perm = [0, 3, 1, 2]>(scaled)
    image = Resize<mode = "linear", axes = [2, 3]>(planes, nothing, nothing, sides)
    top = ArgMax<axis = 1, keepdims = 0>(logits)
    by_rank = Less(target, zero)
    chosen = Where(by_rank, top, target)
    weights = Gather<axis = 0>(head_weight, chosen)
    at_cells = Unsqueeze(weights, axes_of_cells)
    products = Mul(relu_8, at_cells)
    sum = ReduceSum<keepdims = 0>(products, axis_of_channels)
    layer_map = Relu(sum)
    plane = Unsqueeze(layer_map, axis_of_channels)
    large = Resize<mode = "linear", axes = [2, 3]>(plane, nothing, nothing, sides)
    saliency = Squeeze(large, axis_of_channels)
"""
RENAMED = {"nothing": "", "head_weight": "head.weight"}  # what the text cannot write
CONSTANTS = {
    "by_255": ([1 / 255], TensorProto.FLOAT, []),
    "sides": ([SIDE, SIDE], TensorProto.INT64, [2]),
    "zero": ([0], TensorProto.INT64, []),
    "axes_of_cells": ([2, 3], TensorProto.INT64, [2]),
    "axis_of_channels": ([1], TensorProto.INT64, [1]),
}


def write_stand_in(
    path: Path, *, pixels: bool = True, target: bool = True, batch: int | None = None
) -> Path:
    """Write the file, with an input of pixels of any size or the original's, and with or without the input
    `target`; `batch` fixes the number of images.
    """
    proto = onnx.load(bundled_model())
    graph, rows = proto.graph, "N" if batch is None else batch
    body = onnx.parser.parse_graph(f"body (float x) => (float y) {{ {BODY} y = Identity(x) }}")
    before, after = body.node[:3], body.node[3:-1]
    nodes = list(graph.node)
    if pixels:
        cast = helper.make_node("Cast", ["pixels"], ["numbers"], to=TensorProto.FLOAT)
        nodes = [cast, *before, *nodes]
        graph.input[0].CopyFrom(_value("pixels", TensorProto.UINT8, [rows, "h", "w", 3]))
    else:
        graph.input[0].CopyFrom(_value("image", TensorProto.FLOAT, [rows, 3, SIDE, SIDE]))
    if target:
        graph.input.append(_value("target", TensorProto.INT64, [rows]))
    else:
        after = [node for node in after if node.output[0] not in ("by_rank", "chosen")]
        next(node for node in after if node.op_type == "Gather").input[1] = "top"
    nodes += after
    for node in nodes:
        for index, name in enumerate(node.input):
            node.input[index] = RENAMED.get(name, name)
    del graph.node[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    for name, (values, kind, dims) in CONSTANTS.items():
        if name not in read:
            continue
        graph.initializer.append(helper.make_tensor(name, kind, dims, values))
    graph.output.append(_value("logits", TensorProto.FLOAT, [rows, CLASSES]))
    graph.output.append(_value("saliency", TensorProto.FLOAT, [rows, SIDE, SIDE]))
    graph.output.append(_value("layer_map", TensorProto.FLOAT, [rows, CELLS, CELLS]))
    _describe(proto, pixels, target)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)
    return path


def _value(name: str, kind: int, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _describe(proto: onnx.ModelProto, pixels: bool, target: bool) -> None:
    original = load(bundled_model())
    explanation = EmbeddedExplanation(
        method="cam",
        layers=("relu_8",),
        model_name=original.name,
        model_sha256=original.digest,
        takes_target=target,
        preprocessing=PRESETS["unit"],
        takes_pixels=pixels,
        score=ScoreOutput("logits", CLASSES),
    )
    helper.set_model_props(proto, write_metadata(original, explanation).metadata)
