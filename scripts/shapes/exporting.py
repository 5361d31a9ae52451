"""A torch module as one ONNX file without the notes of the exporter."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

IMAGE_METADATA = {  # the image keys of the ONNX standard
    "Image.BitmapPixelFormat": "Rgb8",
    "Image.NominalPixelRange": "Normalized_0_1",
    "Image.ColorSpaceGamma": "SRGB",
}


def export(
    net: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    path: Path,
    metadata: Mapping[str, str],
    name: str,
) -> None:
    """Write the net with these inputs and outputs; the first axis of each is a batch of any size. `name` is
    that of the graph.
    """
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        net,
        tuple(inputs.values()),
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_shapes=tuple({0: batch} for _ in inputs),
        opset_version=18,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    _strip(model)
    model.graph.name = name
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    fixed = [value.name for value in model.graph.input if not _batch_of(value).dim_param]
    if fixed:
        raise ValueError(f"{name}: the exporter fixed the batch of {', '.join(fixed)}")
    onnx.save(model, path)


def _batch_of(value: onnx.ValueInfoProto) -> onnx.TensorShapeProto.Dimension:
    return value.type.tensor_type.shape.dim[0]


def fold_batch_norms(net: nn.Module) -> nn.Module:
    """A copy of a net in evaluation mode with each BatchNorm after a convolution in its weights. The exporter
    folds only those of convolutions that run once.
    """
    folded = copy.deepcopy(net)
    for part in list(folded.modules()):
        if isinstance(part, nn.Sequential) and len(part) > 1 and _is_folded(part[0], part[1]):
            part[0] = fuse_conv_bn_eval(part[0], part[1])
            part[1] = nn.Identity()
    return folded


def _is_folded(first: nn.Module, second: nn.Module) -> bool:
    return isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d)


def _strip(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes: stack traces with the paths of this machine among them."""
    graph = model.graph
    del model.metadata_props[:], model.functions[:]
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("doc_string")
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
    del graph.value_info[:]
