"""What the table says of operators, by running them: rows of what is written are what rows of it all are."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from onnxcam.graph.operators import is_elementwise, operators_with
from onnxcam.graph.opset import schema_at
from onnxcam.passes.row_dependence import reshape_target
from tests.autodiff.support.check import numbers
from tests.passes.test_unneeded_rows import PICK, checked, model, narrowed

OPSET, CONTRIB = 24, "com.microsoft"
TWO = {"PRelu", "BiasGelu"}  # of which the second is broadcast to the first
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "Cast": {"to": onnx.TensorProto.DOUBLE},
    "BitShift": {"direction": "LEFT"},
    "Mod": {"fmod": 1},
}
TRUTHS = {"And", "Not", "Or", "Xor"}
WHOLE = {"BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"}
ELEMENTWISE = sorted(
    name.rpartition("::")[2]
    for name in operators_with(lambda row: is_elementwise(row) and not row.unaligned)
)
VARIADIC = {"Max", "Mean", "Min", "Sum"}


def written(op: str, operands: list[Any]) -> Any:
    """What ONNX Runtime writes for one node."""
    names = [f"x{i}" for i in range(len(operands))]
    domain = "" if schema_at(op, OPSET) else CONTRIB
    node = helper.make_node(op, names, ["y"], domain=domain, **ATTRIBUTES.get(op, {}))
    types = [helper.np_dtype_to_tensor_dtype(each.dtype) for each in operands]
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
def test_elementwise_operators_take_each_row_alone(op: str) -> None:
    schema = schema_at(op, OPSET)
    count = 2 if op in VARIADIC | TWO else schema.min_input if schema else 1
    operands: list[Any] = [numbers(2, 5, 4, seed=i, low=0.1, high=0.9) for i in range(count)]
    if op == "Acosh":
        operands[0] = operands[0] + 1
    if op in TRUTHS | WHOLE:
        kind = np.bool_ if op in TRUTHS else np.uint8
        operands = [(10 * each % 4 // (2 if op in TRUTHS else 1)).astype(kind) for each in operands]
    if op == "Where":
        operands[0] = operands[0] > 0.5
    if op in TWO:
        operands[1] = operands[1][0, 0]
    rows = [each if each.ndim == 1 else each[:, [3, 1]] for each in operands]
    np.testing.assert_allclose(written(op, rows), written(op, operands)[:, [3, 1]], rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "shape", "own", "axis", "expected"),
    [
        (("N", 9, 8), ("N", 9, 2, 4), 1, 1, [0, 1, 2, 4]),
        (("N", 9, 8), (9, "N", 8), 1, 0, [1, -1, 8]),
        (("N", "T", 8), ("N", 1, "T", 8), 1, 2, [0, 1, 1, 8]),
        (("N", "T", "T"), ("N", 1, "T", "T"), 2, 3, [0, 1, -1, 1]),
        (("N", "M", 9), ("M", "N", 9), 2, 2, None),
    ],
)
def test_targets(given: Any, shape: Any, own: int, axis: int, expected: list[int] | None) -> None:
    assert reshape_target(given, shape, own, axis) == expected


PASSED = {
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
    "mean, axis kept": "m = ReduceMean<axes = [2]>(x) z = Sub(x, m)",
    "mean, axis gone": "q = Unsqueeze(x, i0) z = ReduceMean<axes = [0], keepdims = 0>(q)",
    "mean before it": "u = Unsqueeze(x, i1) m = ReduceMean<axes = [1]>(u) z = Squeeze(m, i1)",
    "product": "z = MatMul(x, w)",
    "transpose": "t = Transpose<perm = [1, 2, 0]>(x) z = Transpose<perm = [2, 0, 1]>(t)",
    "heads": "h = Reshape(x, heads) t = Tanh(h) z = Reshape(t, merged)",
    "unsqueeze": "u = Unsqueeze(x, i0) e = Exp(u) z = Squeeze(e, i0)",
    "concat": "a = Tanh(x) z = Concat<axis = -1>(x, a)",
    "split": "a, b = Split<axis = 2>(x, halves) t = Tanh(a) z = Mul(t, b)",
    "slice": "a = Slice(x, i0, i4, i2) z = Tanh(a)",
    "steps": "q = QuantizeLinear(x, step, zero) z = DequantizeLinear(q, step, zero)",
}


@pytest.mark.parametrize("body", PASSED.values(), ids=PASSED)
def test_what_passes(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = checked(it := model(f"{body} {PICK}"), ["x"], monkeypatch)
    whole = {"ReduceMax", "Gather"}  # what is broadcast along the rows, and what picks
    assert narrowed(found) == [each.op for each in it.graph.nodes if each.op not in whole]


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
        ("z = Reshape(x, turned)", []),
        (
            """q = QuantizeLinear<axis = 1>(x, steps, zeros)
            z = DequantizeLinear<axis = 1>(q, steps, zeros)""",
            [],
        ),
        ("a = Reshape(x, alone) b = Tanh(x) z = MatMul(b, w)", ["Tanh", "MatMul"]),
    ],
)
def test_what_mixes_rows_stops(
    body: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert narrowed(checked(model(f"{body} {PICK}"), ["x"], monkeypatch)) == expected


@pytest.mark.parametrize(
    ("op", "opset", "more"),
    [
        ("RMSNormalization", 23, ", scale"),
        ("Softmax", 11, ""),
        ("LogSoftmax", 11, ""),
        ("Gelu", 20, ""),
    ],
)
def test_operators_of_other_opsets(
    op: str, opset: int, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    axis = "<axis = 2>" if opset == 11 else ""
    it = model(f"z = {op}{axis}(x{more}) {PICK}", opset=opset)
    assert narrowed(checked(it, ["x"], monkeypatch)) == [op]


def test_an_old_softmax_takes_all_axes_from_its_own_on(monkeypatch: pytest.MonkeyPatch) -> None:
    it = model(f"z = Softmax<axis = 1>(x) {PICK}", opset=11)
    assert narrowed(checked(it, ["x"], monkeypatch)) == []


@pytest.mark.parametrize("turned", [0, 1])
def test_gemm(turned: int, monkeypatch: pytest.MonkeyPatch) -> None:
    order = "Transpose<perm = [1, 0]>" if turned else "Tanh"
    it = model(
        f"""m = Squeeze(x, i0) a = {order}(m) z = Gemm<transA = {turned}>(a, w, table)
        r = Gather<axis = 0>(z, two) y = Unsqueeze(r, i0)""",
        "1, 9, 8",
        outputs="float[1, 2, 8] y",
    )
    assert narrowed(checked(it, ["x"], monkeypatch))[-1] == "Gemm"


def test_axes_of_unknown_sizes_are_joined_behind_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    it = model(f"a = Tanh(x) z = Reshape(a, joined) {PICK}", "N, 9, a, b")
    found = checked(it, ["x"], monkeypatch, numbers(2, 9, 2, 3))
    assert narrowed(found) == ["Tanh", "Reshape"]


def test_a_squeeze_of_whatever_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    it = model(f"a = Tanh(x) u = Unsqueeze(a, i0) z = Squeeze(u) {PICK}", "2, 9, 8")
    assert narrowed(checked(it, ["x"], monkeypatch)) == []
