"""ONNX's shape inference of a model, without the content of its large weights."""

from __future__ import annotations

import math

import onnx
from onnx import TensorProto, shape_inference

from onnxcam.model.proto.inference_limits import propagates_sizes

LARGE = 1 << 14  # numbers: shapes, axes, and scales, which the inference reads, have fewer
WEIGHTS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
WEIGHTS |= {TensorProto.INT8, TensorProto.UINT8}


def infer_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model with the types and shapes that ONNX infers. Takes the large weights out of `proto`:
    the inference would copy them four times. Raises what the inference raises.
    """
    contents = {
        place: tensor.raw_data
        for place, tensor in enumerate(proto.graph.initializer)
        if tensor.data_type in WEIGHTS
        and tensor.HasField("raw_data")
        and math.prod(tensor.dims) > LARGE
    }
    for place in contents:
        proto.graph.initializer[place].ClearField("raw_data")
    inferred = shape_inference.infer_shapes(proto, data_prop=propagates_sizes(proto.graph))
    for place, content in contents.items():
        inferred.graph.initializer[place].raw_data = content
    return inferred
