"""Inputs and constants that are written oddly: sparse, with default values, or read by nothing."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxcam
from onnxcam.errors import ModelError
from onnxcam.model.proto.normalize import MAX_DENSE_BYTES
from tests.test_unusual_models import (
    TWIN,
    Change,
    X,
    assert_like_the_twin,
    changed,
    explained,
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
def test_an_input_that_nothing_reads(sizes: tuple[int | str, ...]) -> None:
    proto = changed(add_input("unread", *sizes))
    feed = {"x": X, "unread": np.zeros([2 if n == "N" else int(n) for n in sizes], np.float32)}
    found = assert_like_the_twin(proto, feed)
    assert any("the input 'unread' is ignored" in notice for notice in found.notices)


def test_an_input_that_only_dead_nodes_read() -> None:
    def change(proto: onnx.ModelProto) -> None:
        add_input("dead", 2)(proto)
        proto.graph.node.append(helper.make_node("Relu", ["dead"], ["nowhere"]))

    found = assert_like_the_twin(changed(change), {"x": X, "dead": np.zeros(2, np.float32)})
    assert any("'dead'" in notice for notice in found.notices)


def test_an_input_that_is_read_is_still_refused() -> None:
    def change(proto: onnx.ModelProto) -> None:
        add_input("scale", 1)(proto)
        proto.graph.node[0].input[0] = "scaled"
        proto.graph.node.insert(0, helper.make_node("Mul", ["x", "scale"], ["scaled"]))

    with pytest.raises(ModelError, match="has the inputs scale in addition to the image 'x'"):
        explained(changed(change))


def add_default(name: str, values: Any) -> Change:
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.initializer.append(
            numpy_helper.from_array(np.asarray(values, np.float32), name)
        )

    return change


@pytest.mark.parametrize("batch", ["N", 1])
def test_an_image_input_with_a_default(batch: str | int) -> None:
    def change(proto: onnx.ModelProto) -> None:
        give_size(0, batch)(proto)
        add_default("x", np.ones((1, 3, 8, 8)))(proto)

    proto = changed(change)
    x = X if batch == "N" else X[:1]
    found, twin = explained(proto, x), explained(TWIN.proto(), x)
    np.testing.assert_allclose(found.maps, twin.maps, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.scores, run_plain(proto, {"x": x})[:, 1], rtol=1e-5)
    assert any("instead of its default value" in notice for notice in found.notices)


def test_an_image_with_a_default_among_the_weights_of_an_old_model() -> None:
    def change(proto: onnx.ModelProto) -> None:
        for tensor in proto.graph.initializer:
            proto.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
        add_default("x", np.ones((1, 3, 8, 8)))(proto)

    found = explained(changed(change), X)
    np.testing.assert_allclose(found.maps, explained(TWIN.proto()).maps, rtol=1e-4, atol=1e-6)


def test_another_input_with_a_default_is_a_constant() -> None:
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, [1]))
        add_default("scale", [2.0])(proto)
        proto.graph.node[0].input[0] = "scaled"
        proto.graph.node.insert(0, helper.make_node("Mul", ["x", "scale"], ["scaled"]))

    proto = changed(change)
    found = explained(proto)
    np.testing.assert_allclose(found.scores, run_plain(proto, {"x": X})[:, 1], rtol=1e-5)
    np.testing.assert_allclose(found.scores, explained(TWIN.proto(), 2 * X).scores, rtol=1e-5)


# Sparse constants


def make_sparse(*names: str, coordinates: bool = False) -> Change:
    def change(proto: onnx.ModelProto) -> None:
        for tensor in list(proto.graph.initializer):
            if tensor.name in names:
                proto.graph.initializer.remove(tensor)
                values = numpy_helper.to_array(tensor)
                sparse = sparse_of(values, tensor.name, coordinates=coordinates)
                proto.graph.sparse_initializer.append(sparse)

    return change


def sparse_of(values: Any, name: str, *, coordinates: bool) -> onnx.SparseTensorProto:
    places = np.nonzero(values.ravel())[0]
    indices = np.stack(np.unravel_index(places, values.shape), 1) if coordinates else places
    return helper.make_sparse_tensor(
        numpy_helper.from_array(values.ravel()[places], name),
        numpy_helper.from_array(indices.astype(np.int64), f"{name}_indices"),
        values.shape,
    )


@pytest.mark.parametrize("names", [("v",), ("d",), ("u", "v"), ("w1", "b1", "w2", "b2", "u", "e")])
@pytest.mark.parametrize("coordinates", [False, True])
def test_sparse_initializers(names: tuple[str, ...], coordinates: bool) -> None:
    proto = changed(make_sparse(*names, coordinates=coordinates))
    found, twin = explained(proto), explained(TWIN.proto())
    np.testing.assert_allclose(found.maps, twin.maps, rtol=1e-5)
    np.testing.assert_allclose(found.scores, twin.scores, rtol=1e-6)


def test_sparse_initializers_as_onnx_runtime_reads_them() -> None:
    assert_like_the_twin(changed(make_sparse("v", "u")))


def test_a_sparse_constant_node() -> None:
    def change(proto: onnx.ModelProto) -> None:
        tensor = next(each for each in proto.graph.initializer if each.name == "v")
        proto.graph.initializer.remove(tensor)
        sparse = sparse_of(numpy_helper.to_array(tensor), "v", coordinates=False)
        node = helper.make_node("Constant", [], ["v"])
        attribute = node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
        attribute.sparse_tensor.CopyFrom(sparse)
        proto.graph.node.insert(0, node)

    assert_like_the_twin(changed(change))


@pytest.mark.parametrize(
    "dims", [[2**20, 2**20], [2**40], [MAX_DENSE_BYTES // 4 + 1], [2**62, 2**62]]
)
def test_sparse_constants_that_are_too_large_written_out(dims: list[int]) -> None:
    def change(proto: onnx.ModelProto) -> None:
        values = numpy_helper.from_array(np.ones(1, np.float32), "w")
        indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
        proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, dims))

    with pytest.raises(
        ModelError, match=f"more than {MAX_DENSE_BYTES} bytes|not a valid ONNX model"
    ):
        onnxcam.load(changed(change))


@pytest.mark.parametrize("indices", [[-1], [10**6], [0, 1]])
def test_sparse_constants_that_are_not_valid(indices: list[int]) -> None:
    def change(proto: onnx.ModelProto) -> None:
        values = numpy_helper.from_array(np.ones(1, np.float32), "w")
        places = numpy_helper.from_array(np.array(indices, np.int64), "i")
        proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [3, 4]))

    with pytest.raises(ModelError, match="not a valid ONNX model"):
        onnxcam.load(changed(change))
