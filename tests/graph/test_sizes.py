"""Shape arithmetic of which some sizes are known by name only."""

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import numpy_helper

from onnxcam.graph.sizes import Sizes, expanded, size_arithmetic

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
        ("m = Mul(n, k) out = Div(m, three)", "N, 3, 8, 8", None),
        ("out = Mul(n, n)", "N, 3, 8, 8", None),
        ("out = Mul(n, k)", "4, 3, 8, 8", [24]),
        ("out = Div(k, n)", "N, 3, 8, 8", None),
        ("out = Div(k, n)", "4, 3, 8, 8", [1]),
        ("out = Add(n, k)", "N, 3, 8, 8", None),
    ],
)
def test_products_with_a_name(body: str, picture: str, found: Any) -> None:
    assert computed(body, picture) == found


def test_a_name_that_only_looks_like_a_product_is_not_divided() -> None:
    assert computed("out = Div(n, k)", "q_6, 3, 8, 8") is None


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
    assert expanded(given, np.array(wanted, dtype=object)) == shape
