"""Run ONNX's shape inference on a model without the content of its large weights."""

from __future__ import annotations

import math

import onnx
from onnx import TensorProto, shape_inference

from onnxcam.model.proto.inference_limits import has_short_shapes

LARGE_SIZE = 1 << 14  # numbers: shapes, axes, and scales, which the inference reads, have fewer
WEIGHT_TYPES = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
WEIGHT_TYPES |= {TensorProto.INT8, TensorProto.UINT8}


def infer_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model with the types and shapes that ONNX infers. Removes the large weights from `proto`:
    the inference would copy them four times. Raises what the inference raises.
    """
    contents = {
        index: tensor.raw_data
        for index, tensor in enumerate(proto.graph.initializer)
        if tensor.data_type in WEIGHT_TYPES
        and tensor.HasField("raw_data")
        and math.prod(tensor.dims) > LARGE_SIZE
    }
    for index in contents:
        proto.graph.initializer[index].ClearField("raw_data")
    inferred = shape_inference.infer_shapes(proto, data_prop=has_short_shapes(proto.graph))
    for index, content in contents.items():
        inferred.graph.initializer[index].raw_data = content
    return inferred
