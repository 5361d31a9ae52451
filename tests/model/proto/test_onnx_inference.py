"""Shape inference without the weights: they are restored, and constants that decide a shape are read."""

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxcam
from onnxcam.model.proto.onnx_inference import LARGE_SIZE, infer_shapes
from onnxcam.model.proto.prepare import prepare_proto


def dense(weight: np.ndarray, sizes: np.ndarray) -> onnx.ModelProto:
    """A model that multiplies by the weight and reshapes to the sizes."""
    nodes = [
        helper.make_node("Cast", ["weight"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "cast"], ["product"]),
        helper.make_node("Reshape", ["product", "sizes"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, weight.shape[0]])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    constants = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(sizes, "sizes")]
    graph = helper.make_graph(nodes, "dense", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.int8, np.uint8, np.int32])
@pytest.mark.parametrize("width", [LARGE_SIZE // 64, LARGE_SIZE // 64 + 1, LARGE_SIZE])
def test_inference_preserves_weights(dtype: type, width: int) -> None:
    weight: np.ndarray = (np.arange(64 * width) % 100).reshape(64, width).astype(dtype)
    inferred = infer_shapes(dense(weight, np.array([-1, width], np.int64)))
    constants = {t.name: numpy_helper.to_array(t) for t in inferred.graph.initializer}
    np.testing.assert_array_equal(constants["weight"], weight)
    shape = inferred.graph.output[0].type.tensor_type.shape
    assert [dim.dim_value for dim in shape.dim] == [1, width]


@pytest.mark.parametrize("missing", [-1, 1, -4, 4])
@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        *[(np.float32, (300, 300)), (np.float32, ()), (np.float16, (2, 3)), (np.int64, (7,))],
        *[(np.uint8, (5,)), (np.float64, (0, 3)), (np.bool_, (9,))],
    ],
)
def test_content_of_wrong_length_is_refused(
    dtype: type, shape: tuple[int, ...], missing: int
) -> None:
    model = dense(np.ones((4, 4), np.float32), np.array([-1], np.int64))
    tensor = model.graph.initializer.add()
    tensor.CopyFrom(numpy_helper.from_array(np.ones(shape, dtype), "broken"))
    size = math.prod(shape) * np.dtype(dtype).itemsize
    tensor.raw_data = bytes(max(0, size + missing) if size else 1)
    with pytest.raises(onnxcam.ModelError, match="the constant 'broken'"):
        prepare_proto(model, "model")


@pytest.mark.parametrize("dims", [(-1, 4), (-2, -8), (16, -1)])
def test_negative_dimensions_are_refused(dims: tuple[int, ...]) -> None:
    model = dense(np.ones((4, 4), np.float32), np.array([-1], np.int64))
    weight = model.graph.initializer[0]
    del weight.dims[:]
    weight.dims.extend(dims)
    with pytest.raises(onnxcam.ModelError):
        prepare_proto(model, "model")


@pytest.mark.parametrize("kind", ["INT", "FLOAT", "STRING", "INTS", "FLOATS", "STRINGS"])
@pytest.mark.parametrize("content", ["graph", "graphs", "tensor", "tensors", "sparse"])
def test_attribute_with_content_of_other_type_is_refused(kind: str, content: str) -> None:
    model = dense(np.ones((4, 4), np.float32), np.array([-1], np.int64))
    attribute = model.graph.node[1].attribute.add(name="other")
    attribute.type = onnx.AttributeProto.AttributeType.Value(kind)
    broken = onnx.TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[3], raw_data=b"1")
    fields: dict[str, onnx.AttributeProto] = {
        "graph": onnx.AttributeProto(g=model.graph),
        "graphs": onnx.AttributeProto(graphs=[model.graph]),
        "tensor": onnx.AttributeProto(t=broken),
        "tensors": onnx.AttributeProto(tensors=[broken]),
        "sparse": onnx.AttributeProto(sparse_tensor=onnx.SparseTensorProto(values=broken)),
    }
    attribute.MergeFrom(fields[content])
    with pytest.raises(
        onnxcam.ModelError, match="type field and data field mismatch in attribute other"
    ):
        prepare_proto(model, "model")
