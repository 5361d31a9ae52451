"""Shape arithmetic with sizes that are known only by name."""

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import numpy_helper

from onnxcam.graph.shape_arithmetic import Sizes, size_arithmetic
from tests.autodiff.support.check import run

OPSET = 17


CONSTANTS = {"minus": [-1] * 4, "ones": [1] * 4, "o": [-1], "zero": [0], "three": [3], "k": [6]}


def compute_sizes(body: str, image: str = "N, 3, 8, 8") -> list[Any] | None:
    """The sizes in `out`, which is computed from the shape of x; None if it is not shape arithmetic."""
    text = f"(float[{image}] x) => (int64[a] out) {{ s = Shape(x) n = Gather(s, zero) {body} }}"
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": {OPSET}]> net {text}')
    for name, values in CONSTANTS.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.array(values), name))
    sizes_of: dict[str, Sizes] = {}
    for node in gs.import_onnx(proto).nodes:
        sizes = size_arithmetic(node, sizes_of, OPSET)
        if sizes is not None:
            sizes_of[node.outputs[0].name] = sizes
    return sizes_of["out"].tolist() if "out" in sizes_of else None


@pytest.mark.parametrize(
    ("body", "image", "sizes"),
    [
        ("out = Mul(n, k)", "N, 3, 8, 8", ["6x[N]"]),
        ("m = Mul(k, n) out = Div(m, k)", "N, 3, 8, 8", ["N"]),
        ("m = Mul(n, k) p = Mul(m, three) out = Div(p, three)", "N, 3, 8, 8", ["6x[N]"]),
        ("m = Mul(n, k) out = Div(m, three)", "N, 3, 8, 8", ["2x[N]"]),
        ("m = Mul(n, three) out = Div(m, k)", "N, 3, 8, 8", [None]),
        ("out = Mul(n, n)", "N, 3, 8, 8", [None]),
        ("out = Mul(n, k)", "4, 3, 8, 8", [24]),
        ("out = Div(k, n)", "N, 3, 8, 8", [None]),
        ("out = Div(k, n)", "4, 3, 8, 8", [1]),
        ("out = Add(n, k)", "N, 3, 8, 8", [None]),
    ],
)
def test_product_with_a_name_is_a_name(body: str, image: str, sizes: Any) -> None:
    assert compute_sizes(body, image) == sizes


def test_name_that_looks_like_a_product_is_not_divided() -> None:
    assert compute_sizes("out = Div(n, k)", "q_6, 3, 8, 8") == [None]


@pytest.mark.parametrize(
    ("image", "sizes"), [("N, 3, 8, 8", ["N", 3, 8, 8]), ("2, 3, H, W", [2, 3, "H", "W"])]
)
def test_sizes_are_not_minus_one(image: str, sizes: list[Any]) -> None:
    """Exporters replace -1 in the target of an Expand, which keeps the size."""
    body = "e = Equal(s, minus) out = Where(e, ones, s)"
    assert compute_sizes(body, image) == sizes


def test_minus_one_is_replaced() -> None:
    body = "t = Concat<axis = 0>(n, o, k, o) e = Equal(t, minus) out = Where(e, ones, t)"
    assert compute_sizes(body) == ["N", 1, 6, 1]


def test_comparison_of_a_name_with_a_possible_size_is_unknown() -> None:
    body = "e = Equal(s, ones) out = Where(e, minus, s)"
    assert compute_sizes(body) is None
    assert compute_sizes(body, "2, 1, 8, 1") == [2, -1, 8, -1]


BATCH = 6
FLOATS = {"halves": [1.0, 2.0, 2.0, 2.0], "scales": [1.0, 0.5, 1.5, 0.3], "pair": [2, 2, 2, 2]}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "f = Cast<to = 1>(s) d = Div(f, halves) c = Ceil(d) out = Cast<to = 7>(c)",
            ["N", 2, 5, 4],
        ),
        (
            "f = Cast<to = 1>(s) d = Div(f, halves) c = Floor(d) out = Cast<to = 7>(c)",
            ["N", 1, 4, 3],
        ),
        (
            "f = Cast<to = 1>(s) d = Div(f, halves) c = Round(d) out = Cast<to = 7>(c)",
            ["N", 2, 4, 4],
        ),
        ("f = Cast<to = 1>(s) d = Div(f, halves) out = Cast<to = 7>(d)", ["N", 1, 4, 3]),
        (
            "f = Cast<to = 1>(s) d = Mul(f, scales) c = Floor(d) out = Cast<to = 7>(c)",
            ["N", 1, 13, 2],
        ),
        (
            "f = Cast<to = 11>(s) g = Cast<to = 1>(f) d = Mul(g, scales) out = Cast<to = 6>(d)",
            ["N", 1, 13, 2],
        ),
        ("f = Cast<to = 10>(s) c = Ceil(f) out = Cast<to = 7>(c)", ["N", 3, 9, 7]),
        (
            "m = Mul(s, pair) f = Cast<to = 1>(m) d = Div(f, halves) out = Cast<to = 7>(d)",
            ["2x[N]", 3, 9, 7],
        ),
        ("d = Div(s, pair) out = Mul(d, pair)", [None, 2, 8, 6]),
        ("d = Sub(s, ones) out = Add(d, ones)", [None, 3, 9, 7]),
        ("out = Min(s, pair)", [None, 2, 2, 2]),
        ("out = Max(s, pair)", [None, 3, 9, 7]),
        (
            "p = ReduceProd<axes = [0], keepdims = 1>(s) out = Concat<axis = 0>(n, p)",
            ["N", "189x[N]"],
        ),
        ("p = ReduceProd<keepdims = 0>(s) e = Unsqueeze(p, zero) out = Div(e, k)", [None]),
        ("z = Size(x) e = Unsqueeze(z, zero) out = Div(e, n)", [None]),
        ("z = Size(x) e = Unsqueeze(z, zero) out = Div(e, c189)", ["N"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_partly_known_sizes_are_computed(body: str, expected: list[Any]) -> None:
    """The same sizes as ONNX Runtime computes for one batch."""
    text = f"(float[N, 3, 9, 7] x) => (int64[a] out) {{ s = Shape(x) n = Gather(s, zero) {body} }}"
    kind = text.replace("int64[a] out", "int32[a] out") if "<to = 6>" in body else text
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": {OPSET}]> net {kind}')
    constants = {name: np.array(values) for name, values in {**CONSTANTS, "c189": [189]}.items()}
    constants |= {name: np.array(values, np.float32) for name, values in FLOATS.items()}
    constants["pair"] = constants["pair"].astype(np.int64)
    for name, array in constants.items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    sizes_of: dict[str, Sizes] = {}
    graph = gs.import_onnx(onnx.shape_inference.infer_shapes(proto))
    for node in graph.nodes:
        if (sizes := size_arithmetic(node, sizes_of, OPSET)) is not None:
            sizes_of[node.outputs[0].name] = sizes
    assert sizes_of["out"].tolist() == expected
    (compute_sizes,) = run(proto, {"x": np.zeros((BATCH, 3, 9, 7), np.float32)}, ["out"])
    named = {"N": BATCH, "2x[N]": 2 * BATCH, "189x[N]": 189 * BATCH}
    for size, number in zip(expected, compute_sizes, strict=True):
        assert size is None or named.get(size, size) == number


def test_products_stay_short() -> None:
    """However often numbers and names are multiplied."""
    body = "t0 = Mul(s, k) " + "".join(f"t{i + 1} = Mul(t{i}, t{i}) " for i in range(40))
    assert compute_sizes(f"{body} out = Identity(t40)") == [None] * 4
    body = "t0 = Mul(n, k) " + "".join(f"t{i + 1} = Mul(t{i}, k) " for i in range(60))
    assert compute_sizes(f"{body} out = Identity(t60)") == [None]
    assert compute_sizes("a = Mul(n, k) b = Mul(a, k) out = Mul(b, three)") == ["108x[N]"]


def test_shapes_stay_short() -> None:
    body = "t0 = Concat<axis = 0>(s, s) " + "".join(
        f"t{i + 1} = Concat<axis = 0>(t{i}, t{i}) " for i in range(30)
    )
    assert compute_sizes(f"{body} out = Identity(t30)") is None
