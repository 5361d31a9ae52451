"""Unusual inputs and constants: sparse, with default values, or read by nothing."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxcam
from onnxcam.errors import ModelError
from onnxcam.model.proto.normalize import MAX_DENSE_BYTES
from tests.support.unusual_models import (
    TWIN,
    Change,
    X,
    assert_equals_twin,
    changed_twin,
    explain,
    give_size,
    run_plain,
)

# Inputs


def add_input(name: str, *sizes: int | str) -> Change:
    def change(proto: onnx.ModelProto) -> None:
        tensor = helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
        proto.graph.input.insert(0, tensor)

    return change


@pytest.mark.parametrize("sizes", [(1,), ("N", 3, 8, 8), ()])
def test_unread_input_is_ignored(sizes: tuple[int | str, ...]) -> None:
    proto = changed_twin(add_input("unread", *sizes))
    feed = {"x": X, "unread": np.zeros([2 if n == "N" else int(n) for n in sizes], np.float32)}
    explanation = assert_equals_twin(proto, feed)
    assert any("the input 'unread' is ignored" in notice for notice in explanation.notices)


def test_input_of_dead_nodes_is_ignored() -> None:
    def change(proto: onnx.ModelProto) -> None:
        add_input("dead", 2)(proto)
        proto.graph.node.append(helper.make_node("Relu", ["dead"], ["nowhere"]))

    explanation = assert_equals_twin(
        changed_twin(change), {"x": X, "dead": np.zeros(2, np.float32)}
    )
    assert any("'dead'" in notice for notice in explanation.notices)


def test_second_input_that_is_read_is_refused() -> None:
    def change(proto: onnx.ModelProto) -> None:
        add_input("scale", 1)(proto)
        proto.graph.node[0].input[0] = "scaled"
        proto.graph.node.insert(0, helper.make_node("Mul", ["x", "scale"], ["scaled"]))

    with pytest.raises(ModelError, match="has the input scale in addition to the image 'x'"):
        explain(changed_twin(change))


def add_default(name: str, values: Any) -> Change:
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.initializer.append(
            numpy_helper.from_array(np.asarray(values, np.float32), name)
        )

    return change


@pytest.mark.parametrize("batch", ["N", 1])
def test_image_input_with_default_is_fed(batch: str | int) -> None:
    def change(proto: onnx.ModelProto) -> None:
        give_size(0, batch)(proto)
        add_default("x", np.ones((1, 3, 8, 8)))(proto)

    proto = changed_twin(change)
    x = X if batch == "N" else X[:1]
    explanation, twin = explain(proto, x), explain(TWIN.proto(), x)
    np.testing.assert_allclose(explanation.maps, twin.maps, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(explanation.scores, run_plain(proto, {"x": x})[:, 1], rtol=1e-5)
    assert any("instead of its default value" in notice for notice in explanation.notices)


def test_image_with_default_among_weights_of_old_model_is_fed() -> None:
    def change(proto: onnx.ModelProto) -> None:
        for tensor in proto.graph.initializer:
            proto.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
        add_default("x", np.ones((1, 3, 8, 8)))(proto)

    explanation = explain(changed_twin(change), X)
    np.testing.assert_allclose(explanation.maps, explain(TWIN.proto()).maps, rtol=1e-4, atol=1e-6)


def test_second_input_with_default_becomes_constant() -> None:
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, [1]))
        add_default("scale", [2.0])(proto)
        proto.graph.node[0].input[0] = "scaled"
        proto.graph.node.insert(0, helper.make_node("Mul", ["x", "scale"], ["scaled"]))

    proto = changed_twin(change)
    explanation = explain(proto)
    np.testing.assert_allclose(explanation.scores, run_plain(proto, {"x": X})[:, 1], rtol=1e-5)
    np.testing.assert_allclose(explanation.scores, explain(TWIN.proto(), 2 * X).scores, rtol=1e-5)


# Sparse constants


def make_sparse(*names: str, coordinates: bool = False) -> Change:
    def change(proto: onnx.ModelProto) -> None:
        for tensor in list(proto.graph.initializer):
            if tensor.name in names:
                proto.graph.initializer.remove(tensor)
                values = numpy_helper.to_array(tensor)
                sparse = to_sparse(values, tensor.name, coordinates=coordinates)
                proto.graph.sparse_initializer.append(sparse)

    return change


def to_sparse(values: Any, name: str, *, coordinates: bool) -> onnx.SparseTensorProto:
    flat = np.nonzero(values.ravel())[0]
    indices = np.stack(np.unravel_index(flat, values.shape), 1) if coordinates else flat
    return helper.make_sparse_tensor(
        numpy_helper.from_array(values.ravel()[flat], name),
        numpy_helper.from_array(indices.astype(np.int64), f"{name}_indices"),
        values.shape,
    )


@pytest.mark.parametrize("names", [("v",), ("d",), ("u", "v"), ("w1", "b1", "w2", "b2", "u", "e")])
@pytest.mark.parametrize("coordinates", [False, True])
def test_sparse_initializers_are_made_dense(names: tuple[str, ...], coordinates: bool) -> None:
    proto = changed_twin(make_sparse(*names, coordinates=coordinates))
    explanation, twin = explain(proto), explain(TWIN.proto())
    np.testing.assert_allclose(explanation.maps, twin.maps, rtol=1e-5)
    np.testing.assert_allclose(explanation.scores, twin.scores, rtol=1e-6)


def test_sparse_initializers_equal_those_of_onnx_runtime() -> None:
    assert_equals_twin(changed_twin(make_sparse("v", "u")))


def test_sparse_constant_node_is_made_dense() -> None:
    def change(proto: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == "v")
        proto.graph.initializer.remove(tensor)
        sparse = to_sparse(numpy_helper.to_array(tensor), "v", coordinates=False)
        node = helper.make_node("Constant", [], ["v"])
        attribute = node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
        attribute.sparse_tensor.CopyFrom(sparse)
        proto.graph.node.insert(0, node)

    assert_equals_twin(changed_twin(change))


@pytest.mark.parametrize(
    "dims", [[2**20, 2**20], [2**40], [MAX_DENSE_BYTES // 4 + 1], [2**62, 2**62]]
)
def test_sparse_constants_too_large_when_dense_are_refused(dims: list[int]) -> None:
    def change(proto: onnx.ModelProto) -> None:
        values = numpy_helper.from_array(np.ones(1, np.float32), "w")
        indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
        proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, dims))

    with pytest.raises(
        ModelError, match=f"more than {MAX_DENSE_BYTES} bytes|not a valid ONNX model"
    ):
        onnxcam.load(changed_twin(change))


@pytest.mark.parametrize("indices", [[-1], [10**6], [0, 1]])
def test_invalid_sparse_constants_are_refused(indices: list[int]) -> None:
    def change(proto: onnx.ModelProto) -> None:
        values = numpy_helper.from_array(np.ones(1, np.float32), "w")
        positions = numpy_helper.from_array(np.array(indices, np.int64), "i")
        sparse = helper.make_sparse_tensor(values, positions, [3, 4])
        proto.graph.sparse_initializer.append(sparse)

    with pytest.raises(ModelError, match="not a valid ONNX model"):
        onnxcam.load(changed_twin(change))
