"""The facts that a protocol buffer shows without its weights being read."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcam.bundled import bundled_model
from onnxcam.model.file_facts import describe_proto, describe_value, quantization_of, type_name

TEXT = """<ir_version: 9, opset_import: ["": 17, "com.microsoft": 1]>
net (float[N, 3, 8, 8] x, bool flag) => (float[N, 3] y) <float[3] w = {1, 2, 3}> {
    size = Constant<value = int64[2] {1, 3}>()
    a = If (flag) <
        then_branch = yes () => (b) { two = Constant<value = float[2] {1, 2}>() b = Relu(x) },
        else_branch = no () => (c) { c = com.microsoft.Gelu(x) }
    >
    p = GlobalAveragePool(a) q = Reshape(p, size) y = Mul(q, w) }"""


def describe(proto: onnx.ModelProto, folder: Path) -> dict[str, Any]:
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return describe_proto(proto, path)


def with_external_weight(folder: Path, written: int, declared: int = 16) -> dict[str, Any]:
    """The facts of a model whose weight of 16 bytes is in a file of `written` bytes."""
    proto = onnx.parser.parse_model(TEXT)
    weight = TensorProto(name="v", data_type=TensorProto.FLOAT, dims=[4])
    weight.data_location = TensorProto.EXTERNAL
    for key, text in {"location": "w.data", "length": str(declared)}.items():
        weight.external_data.add(key=key, value=text)
    proto.graph.initializer.append(weight)
    if written:
        (folder / "w.data").write_bytes(bytes(written))
    return describe(proto, folder)


def test_operators_of_subgraphs_and_other_domains_are_counted(tmp_path: Path) -> None:
    facts = describe(onnx.parser.parse_model(TEXT), tmp_path)
    assert facts["operators"].pop("Constant") == 2
    assert set(facts["operators"].values()) == {1}
    assert "com.microsoft::Gelu" in facts["operators"]
    assert facts["opsets"] == {"": 17, "com.microsoft": 1}


def test_weights_of_constants_in_branches_are_counted(tmp_path: Path) -> None:
    facts = describe(onnx.parser.parse_model(TEXT), tmp_path)
    assert facts["weights"] == {"float32": 5 * 4, "int64": 2 * 8}
    assert facts["parameters"] == 5  # those of 64-bit integers are sizes


def test_parameters_of_the_bundled_model_are_those_of_its_initializers() -> None:
    proto = onnx.load(bundled_model())
    sizes = [numpy_helper.to_array(tensor).size for tensor in proto.graph.initializer]
    facts = describe_proto(proto, bundled_model())
    assert facts["parameters"] == sum(sizes) - 2  # the axes of the pooling
    assert facts["bytes"] == bundled_model().stat().st_size


def test_initializer_among_the_inputs_is_no_input(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(TEXT)
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3]))
    names = [value["name"] for value in describe(proto, tmp_path)["inputs"]]
    assert names == ["x", "flag"]


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        (
            helper.make_tensor_value_info("v", TensorProto.FLOAT16, ["N", 3, None]),
            "float16",
            ["N", 3, None],
        ),
        (helper.make_tensor_value_info("v", TensorProto.STRING, []), "string", []),
        (helper.make_tensor_value_info("v", TensorProto.BFLOAT16, None), "bfloat16", None),
        (helper.make_tensor_sequence_value_info("v", TensorProto.FLOAT, [1]), "sequence", None),
        (onnx.ValueInfoProto(name="v"), "unknown", None),
    ],
)
def test_value_has_dtype_and_shape(
    value: onnx.ValueInfoProto, dtype: str, shape: list[Any] | None
) -> None:
    assert describe_value(value) == {"name": "v", "dtype": dtype, "shape": shape}


def test_unknown_type_is_named_by_its_number() -> None:
    assert type_name(999) == "type 999"


def test_external_data_is_complete(tmp_path: Path) -> None:
    facts = with_external_weight(tmp_path, written=16)
    assert facts["external_data"] == [{"name": "w.data", "bytes": 16, "problem": None}]
    assert facts["bytes"] == (tmp_path / "net.onnx").stat().st_size + 16
    assert facts["weights"]["float32"] == 9 * 4


@pytest.mark.parametrize(
    ("written", "declared", "problem"),
    [(0, 16, "No such file"), (15, 16, "the file 'w.data' has 15"), (16, 8, "with 8 bytes")],
)
def test_incomplete_external_data_is_reported(
    tmp_path: Path, written: int, declared: int, problem: str
) -> None:
    (file,) = with_external_weight(tmp_path, written, declared)["external_data"]
    assert problem in file["problem"]


@pytest.mark.parametrize(
    ("operators", "kind"),
    [
        (["Conv", "QuantizeLinear", "DequantizeLinear"], "QDQ"),
        (["QLinearConv"], "operators on integers"),
        (["com.microsoft::QGemm"], "operators on integers"),
        (["DynamicQuantizeLinear", "MatMulInteger"], "dynamic"),
    ],
)
def test_quantization_is_named(operators: list[str], kind: str) -> None:
    assert str(quantization_of(operators)).startswith(kind)


def test_float_model_is_not_quantized() -> None:
    assert quantization_of(["Conv", "Relu", "com.microsoft::QuickGelu"]) is None


@pytest.mark.parametrize("dims", [[-4], [1 << 40, 1 << 40]])
def test_constant_of_a_senseless_size_is_no_error(tmp_path: Path, dims: list[int]) -> None:
    proto = onnx.parser.parse_model(TEXT)
    proto.graph.initializer.append(TensorProto(name="v", data_type=TensorProto.FLOAT, dims=dims))
    assert describe(proto, tmp_path)["parameters"] in (5, 5 + (1 << 80))


def test_text_has_no_size(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(TEXT)
    proto.graph.initializer.append(numpy_helper.from_array(np.array(["a", "b"]), "names"))
    assert describe(proto, tmp_path)["weights"] == {"float32": 20, "int64": 16}
