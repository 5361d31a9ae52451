"""Builders write operators with their types, once, and in linear time."""

import numpy as np
import pytest
from onnx import parser

from onnxcam.errors import NeedsOpsetError, UnknownNameError
from onnxcam.graph import shape_inference as shapes
from onnxcam.graph.tracing import Builder, Value
from onnxcam.model.load import load

TEXT = """<ir_version: 8, opset_import: ["" : {opset}]>
net (float[N, 3] x) => (float[N, 3] y) {{ y = Relu(x) }}"""


def builder(opset: int = 17) -> Builder:
    return Builder(load(parser.parse_model(TEXT.format(opset=opset))).graph)


def test_new_tensor_has_dtype_and_shape() -> None:
    build = builder()
    value = build.op("Softmax", build.value("x"), axis=-1)
    assert value.shape == ("N", 3)
    assert value.dtype == np.dtype(np.float32)


def test_same_operator_on_same_operands_is_written_once() -> None:
    build = builder()
    x = build.value("x")
    assert np.exp(x).name == np.exp(x).name
    assert (x * 2.0).name == (x * 2.0).name
    assert (x * 2.0).name != (x * 3.0).name
    assert build.op("Softmax", x, axis=0).name != build.op("Softmax", x, axis=1).name


def test_constants_differ_by_dtype_and_shape() -> None:
    build = builder()
    names = {
        build.constant(np.zeros(2, np.float32)).name,
        build.constant(np.zeros(2, np.int32)).name,
        build.constant(np.zeros((2, 1), np.float32)).name,
        build.constant(np.float32(0)).name,
    }
    assert len(names) == 4
    assert build.constant(np.float32(0)).shape == ()


def test_constant_beyond_range_of_dtype_is_infinite_without_warning() -> None:
    constant = builder().constant(np.array([3.4e38 * 1.7, -1e300]), np.float32)
    assert constant.tensor.values.tolist() == [np.inf, -np.inf]


def test_form_of_newer_opset_is_needs_opset_error() -> None:
    build = builder(opset=12)
    with pytest.raises(NeedsOpsetError) as caught:
        build.op("ReduceSum", build.value("x"), build.constant(np.array([1])))
    assert caught.value.opset == 13
    with pytest.raises(NeedsOpsetError) as caught:
        build.op("Gelu", build.value("x"))
    assert caught.value.opset == 20


def test_mistake_of_a_rule_is_value_error() -> None:
    build = builder()
    with pytest.raises(ValueError, match="no version of Relu"):
        build.op("Relu", build.value("x"), speed=3)
    with pytest.raises(UnknownNameError, match="did you mean x"):
        build.value("xx")


def test_work_grows_linearly_with_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the operators need twice the inferences, and the tensors of the graph are not listed again."""
    calls = {"infer": 0, "tensors": 0}
    infer = shapes.infer

    def count_inference(*arguments: object) -> object:
        calls["infer"] += 1
        return infer(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("onnxcam.graph.tracing.infer", count_inference)

    def work(count: int) -> int:
        build = builder()
        tensors = build.graph.tensors
        monkeypatch.setattr(
            build.graph, "tensors", lambda: calls.update(tensors=calls["tensors"] + 1) or tensors()
        )
        calls.update(infer=0, tensors=0)
        value: Value = build.value("x")
        for i in range(count):
            value = value + float(i)
        assert calls["tensors"] == 0
        return calls["infer"]

    assert work(100) == 100
    assert work(200) == 200


def test_second_output_is_requested_once() -> None:
    build = builder()
    x = build.op("Unsqueeze", build.value("x"), build.constant(np.array([1])))
    y = build.op("MaxPool", x, kernel_shape=[2])
    indices = build.second_output(y, np.dtype(np.int64))
    assert indices.dtype == np.int64
    assert build.second_output(y, np.dtype(np.int64)).name == indices.name
    assert y.tensor.inputs[0].outputs[1] is indices.tensor
