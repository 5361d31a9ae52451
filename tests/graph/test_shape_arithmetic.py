"""Shape arithmetic of which some sizes are known by name only."""

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import numpy_helper

from onnxcam.graph.dims import broadcast_shapes
from onnxcam.graph.shape_arithmetic import Sizes, size_arithmetic
from tests.autodiff.support.check import run

OPSET = 17


CONSTANTS = {"minus": [-1] * 4, "ones": [1] * 4, "o": [-1], "zero": [0], "three": [3], "k": [6]}


def computed(body: str, picture: str = "N, 3, 8, 8") -> list[Any] | None:
    """What is known of `out`, the entries of a target that is computed from the shape of x."""
    text = f"(float[{picture}] x) => (int64[a] out) {{ s = Shape(x) n = Gather(s, zero) {body} }}"
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": {OPSET}]> net {text}')
    for name, values in CONSTANTS.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.array(values), name))
    known: dict[str, Sizes] = {}
    for node in gs.import_onnx(proto).nodes:
        found = size_arithmetic(node, known, OPSET)
        if found is not None:
            known[node.outputs[0].name] = found
    return known["out"].tolist() if "out" in known else None


@pytest.mark.parametrize(
    ("body", "picture", "found"),
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
def test_products_with_a_name(body: str, picture: str, found: Any) -> None:
    assert computed(body, picture) == found


def test_a_name_that_only_looks_like_a_product_is_not_divided() -> None:
    assert computed("out = Div(n, k)", "q_6, 3, 8, 8") == [None]


@pytest.mark.parametrize(
    ("picture", "found"), [("N, 3, 8, 8", ["N", 3, 8, 8]), ("2, 3, H, W", [2, 3, "H", "W"])]
)
def test_no_size_is_minus_one(picture: str, found: list[Any]) -> None:
    """As exporters write the target of an Expand: where it is -1 the size is kept."""
    body = "e = Equal(s, minus) out = Where(e, ones, s)"
    assert computed(body, picture) == found


def test_what_is_minus_one_is_replaced() -> None:
    body = "t = Concat<axis = 0>(n, o, k, o) e = Equal(t, minus) out = Where(e, ones, t)"
    assert computed(body) == ["N", 1, 6, 1]


def test_a_name_may_be_any_number_that_a_size_can_be() -> None:
    body = "e = Equal(s, ones) out = Where(e, minus, s)"
    assert computed(body) is None
    assert computed(body, "2, 1, 8, 1") == [2, -1, 8, -1]


@pytest.mark.parametrize(
    ("given", "wanted", "shape"),
    [
        ((1, 1, 8), ["N", 1, 1], ("N", 1, 8)),
        ((8,), ["N", 5, 1], ("N", 5, 8)),
        ((2, "T", 8), [1], (2, "T", 8)),
        (("T", 1), ["T", 4], ("T", 4)),
        (("T", 1), [7, 4], (7, 4)),
        (("T", 1), ["S", 4], (None, 4)),
        ((), ["N", 1], ("N", 1)),
    ],
)
def test_the_shape_of_an_expand(given: Any, wanted: list[Any], shape: Any) -> None:
    assert broadcast_shapes(given, wanted) == shape


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
def test_partly_known_sizes_are_computed_with(body: str, expected: list[Any]) -> None:
    """As ONNX Runtime computes with them for one batch."""
    text = f"(float[N, 3, 9, 7] x) => (int64[a] out) {{ s = Shape(x) n = Gather(s, zero) {body} }}"
    kind = text.replace("int64[a] out", "int32[a] out") if "<to = 6>" in body else text
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": {OPSET}]> net {kind}')
    constants = {name: np.array(values) for name, values in {**CONSTANTS, "c189": [189]}.items()}
    constants |= {name: np.array(values, np.float32) for name, values in FLOATS.items()}
    constants["pair"] = constants["pair"].astype(np.int64)
    for name, array in constants.items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    known: dict[str, Sizes] = {}
    graph = gs.import_onnx(onnx.shape_inference.infer_shapes(proto))
    for node in graph.nodes:
        if (sizes := size_arithmetic(node, known, OPSET)) is not None:
            known[node.outputs[0].name] = sizes
    assert known["out"].tolist() == expected
    (computed,) = run(proto, {"x": np.zeros((BATCH, 3, 9, 7), np.float32)}, ["out"])
    named = {"N": BATCH, "2x[N]": 2 * BATCH, "189x[N]": 189 * BATCH}
    for entry, number in zip(expected, computed, strict=True):
        assert entry is None or named.get(entry, entry) == number


def test_products_stay_short() -> None:
    """Of numbers and of names, however often they are multiplied."""
    body = "t0 = Mul(s, k) " + "".join(f"t{i + 1} = Mul(t{i}, t{i}) " for i in range(40))
    assert computed(f"{body} out = Identity(t40)") == [None] * 4
    body = "t0 = Mul(n, k) " + "".join(f"t{i + 1} = Mul(t{i}, k) " for i in range(60))
    assert computed(f"{body} out = Identity(t60)") == [None]
    assert computed("a = Mul(n, k) b = Mul(a, k) out = Mul(b, three)") == ["108x[N]"]


def test_shapes_stay_short() -> None:
    body = "t0 = Concat<axis = 0>(s, s) " + "".join(
        f"t{i + 1} = Concat<axis = 0>(t{i}, t{i}) " for i in range(30)
    )
    assert computed(f"{body} out = Identity(t30)") is None
