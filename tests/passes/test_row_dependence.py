"""Row-wise operators, tested by running them: the output of some rows is those rows of the output."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from onnxcam.graph.operators import CONTRIB, is_elementwise
from onnxcam.graph.opset import schema_at
from onnxcam.passes.row_dependence import reshape_target
from tests.autodiff.support.check import numbers
from tests.passes.support.row_models import PICK, check_gradient, model_of, narrowed_operators
from tests.support.traits import operators_with

OPSET = 24
VECTOR_SECOND = {"PRelu", "BiasGelu"}  # whose second input is a vector
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "Cast": {"to": onnx.TensorProto.DOUBLE},
    "BitShift": {"direction": "LEFT"},
    "Mod": {"fmod": 1},
}
BOOLEAN = {"And", "Not", "Or", "Xor"}
INTEGER = {"BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"}
ELEMENTWISE = sorted(
    name.rpartition("::")[2]
    for name in operators_with(lambda row: is_elementwise(row) and not row.unaligned)
)
VARIADIC = {"Max", "Mean", "Min", "Sum"}


def run_operator(op: str, operands: list[Any]) -> Any:
    """The output of one node by ONNX Runtime."""
    names = [f"x{i}" for i in range(len(operands))]
    domain = "" if schema_at(op, OPSET) else CONTRIB
    node = helper.make_node(op, names, ["y"], domain=domain, **ATTRIBUTES.get(op, {}))
    types = [helper.np_dtype_to_tensor_dtype(array.dtype) for array in operands]
    inputs = [helper.make_tensor_value_info(n, t, None) for n, t in zip(names, types, strict=True)]
    outputs = [helper.make_empty_tensor_value_info("y")]
    graph = helper.make_graph([node], "one", inputs, outputs)
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
    content = helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(names, operands, strict=True)))[0]


@pytest.mark.parametrize("op", ELEMENTWISE)
def test_elementwise_operator_computes_rows_independently(op: str) -> None:
    schema = schema_at(op, OPSET)
    count = 2 if op in VARIADIC | VECTOR_SECOND else schema.min_input if schema else 1
    operands: list[Any] = [numbers(2, 5, 4, seed=i, low=0.1, high=0.9) for i in range(count)]
    if op == "Acosh":
        operands[0] = operands[0] + 1
    if op in BOOLEAN | INTEGER:
        dtype, divisor = (np.bool_, 2) if op in BOOLEAN else (np.uint8, 1)
        operands = [(10 * array % 4 // divisor).astype(dtype) for array in operands]
    if op == "Where":
        operands[0] = operands[0] > 0.5
    if op in VECTOR_SECOND:
        operands[1] = operands[1][0, 0]
    rows = [array if array.ndim == 1 else array[:, [3, 1]] for array in operands]
    np.testing.assert_allclose(
        run_operator(op, rows), run_operator(op, operands)[:, [3, 1]], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("shape", "new_shape", "source", "axis", "expected"),
    [
        (("N", 9, 8), ("N", 9, 2, 4), 1, 1, [0, 1, 2, 4]),
        (("N", 9, 8), (9, "N", 8), 1, 0, [1, -1, 8]),
        (("N", "T", 8), ("N", 1, "T", 8), 1, 2, [0, 1, 1, 8]),
        (("N", "T", "T"), ("N", 1, "T", "T"), 2, 3, [0, 1, -1, 1]),
        (("N", "M", 9), ("M", "N", 9), 2, 2, None),
    ],
)
def test_reshape_target_of_one_row(
    shape: Any, new_shape: Any, source: int, axis: int, expected: list[int] | None
) -> None:
    assert reshape_target(shape, new_shape, source, axis) == expected


ROW_WISE = {
    "unary": "z = Tanh(x)",
    "binary": "a = Tanh(x) z = Add(a, x)",
    "two numbers of a channel": "a = Mul(x, scale) z = Sub(scale, a)",
    "constant with the axis": "z = Mul(x, pos)",
    "constant of lower rank": "z = Mul(table, x)",
    "constant of one column": "z = Mul(x, column)",
    "operand broadcast along it": "m = ReduceMax<axes = [1]>(x) z = Mul(x, m)",
    "choice": "a = Neg(x) z = Where(mask, x, a)",
    "bounds": "z = Clip(x, , half)",
    "cast": "a = Cast<to = 11>(x) z = Cast<to = 1>(a)",
    "layer norm": "z = LayerNormalization(x, scale)",
    "softmax": "z = Softmax(x)",
    "mean, axis of size 1": "m = ReduceMean<axes = [2]>(x) z = Sub(x, m)",
    "mean, axis removed": "q = Unsqueeze(x, i0) z = ReduceMean<axes = [0], keepdims = 0>(q)",
    "mean before it": "u = Unsqueeze(x, i1) m = ReduceMean<axes = [1]>(u) z = Squeeze(m, i1)",
    "product": "z = MatMul(x, w)",
    "transpose": "t = Transpose<perm = [1, 2, 0]>(x) z = Transpose<perm = [2, 0, 1]>(t)",
    "heads": "h = Reshape(x, heads) t = Tanh(h) z = Reshape(t, merged)",
    "unsqueeze": "u = Unsqueeze(x, i0) e = Exp(u) z = Squeeze(e, i0)",
    "concat": "a = Tanh(x) z = Concat<axis = -1>(x, a)",
    "split": "a, b = Split<axis = 2>(x, halves) t = Tanh(a) z = Mul(t, b)",
    "slice": "a = Slice(x, i0, i4, i2) z = Tanh(a)",
    "quantization": "q = QuantizeLinear(x, step, zero) z = DequantizeLinear(q, step, zero)",
}


@pytest.mark.parametrize("body", ROW_WISE.values(), ids=ROW_WISE)
def test_request_travels_through_row_wise_operators(body: str) -> None:
    model = model_of(f"{body} {PICK}")
    complete = {"ReduceMax", "Gather"}  # broadcast along the rows, and the pick itself
    expected = [node.op for node in model.graph.nodes if node.op not in complete]
    assert narrowed_operators(check_gradient(model, ["x"])) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "a = Transpose<perm = [0, 2, 1]>(x) m = MatMul(x, a) z = Softmax(m)",
            ["MatMul", "Softmax"],
        ),
        ("c = Concat<axis = 1>(x, x) z = Tanh(c)", ["Tanh"]),
        ("c = CumSum(x, list) z = Tanh(c)", ["Tanh"]),
        ("s = Softmax<axis = 1>(x) z = Tanh(s)", ["Tanh"]),
        ("s = LayerNormalization<axis = 1>(x, table) z = Tanh(s)", ["Tanh"]),
        ("r = Reshape(x, flat) q = Tanh(r) z = Reshape(q, merged)", []),
        ("z = Reshape(x, transposed)", []),
        (
            """q = QuantizeLinear<axis = 1>(x, steps, zeros)
            z = DequantizeLinear<axis = 1>(q, steps, zeros)""",
            [],
        ),
        ("a = Reshape(x, batch_of_one) b = Tanh(x) z = MatMul(b, w)", ["Tanh", "MatMul"]),
    ],
)
def test_request_stops_at_operators_that_mix_rows(body: str, expected: list[str]) -> None:
    assert narrowed_operators(check_gradient(model_of(f"{body} {PICK}"), ["x"])) == expected


@pytest.mark.parametrize(
    ("op", "opset", "inputs"),
    [
        ("RMSNormalization", 23, "x, scale"),
        ("Softmax", 11, "x"),
        ("LogSoftmax", 11, "x"),
        ("Gelu", 20, "x"),
    ],
)
def test_row_wise_operator_of_another_opset(op: str, opset: int, inputs: str) -> None:
    axis = "<axis = 2>" if opset == 11 else ""
    model = model_of(f"z = {op}{axis}({inputs}) {PICK}", opset=opset)
    assert narrowed_operators(check_gradient(model, ["x"])) == [op]


def test_softmax_of_opset_11_mixes_all_trailing_axes() -> None:
    model = model_of(f"z = Softmax<axis = 1>(x) {PICK}", opset=11)
    assert narrowed_operators(check_gradient(model, ["x"])) == []


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_is_row_wise(transposed: int) -> None:
    order = "Transpose<perm = [1, 0]>" if transposed else "Tanh"
    model = model_of(
        f"""m = Squeeze(x, i0) a = {order}(m) z = Gemm<transA = {transposed}>(a, w, table)
        r = Gather<axis = 0>(z, two) y = Unsqueeze(r, i0)""",
        "1, 9, 8",
        outputs="float[1, 2, 8] y",
    )
    assert narrowed_operators(check_gradient(model, ["x"]))[-1] == "Gemm"


def test_reshape_merges_axes_of_unknown_sizes_after_the_rows() -> None:
    model = model_of(f"a = Tanh(x) z = Reshape(a, joined) {PICK}", "N, 9, a, b")
    narrow_model = check_gradient(model, ["x"], numbers(2, 9, 2, 3))
    assert narrowed_operators(narrow_model) == ["Tanh", "Reshape"]


def test_squeeze_without_axes_stops_a_request() -> None:
    model = model_of(f"a = Tanh(x) u = Unsqueeze(a, i0) z = Squeeze(u) {PICK}", "2, 9, 8")
    assert narrowed_operators(check_gradient(model, ["x"])) == []
