"""Sizes with names: the same after an operator that keeps the size, different after others."""

import re
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper, parser

from onnxcam.model.load import load
from tests.autodiff.support.check import numbers


def shapes(body: str, opset: int = 17) -> dict[str, Any]:
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
    net (float[N, 3, H, W] x) => (float[a, b, c, d] y) {{{body}}}"""
    proto = parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(numbers(3, 3, 3, 3), "w"))
    return {name: tensor.shape for name, tensor in load(proto).graph.tensors().items()}


def test_equal_sizes_of_two_branches_are_equal_expressions() -> None:
    shape_of = shapes("""
    a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)
    p = MaxPool<kernel_shape = [1, 1], strides = [2, 2]>(x)
    q = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)
    s = Add(a, q)
    y = Relu(s)
    """)
    assert shape_of["a"] == shape_of["q"] == shape_of["y"]
    assert shape_of["a"][:2] == ["N", 3]
    assert shape_of["a"] != shape_of["x"]


def test_window_that_keeps_the_size_keeps_its_name() -> None:
    shape_of = shapes("""
    a = Conv<pads = [1, 1, 1, 1]>(x, w)
    b = Conv<auto_pad = "SAME_UPPER">(a, w)
    y = Add(b, x)
    """)
    assert shape_of["a"] == shape_of["b"] == shape_of["y"] == ["N", 3, "H", "W"]


def test_different_windows_give_different_expressions() -> None:
    shape_of = shapes("""
    a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
    b = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(x)
    c = MaxPool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(x)
    d = AveragePool<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_LOWER">(x)
    y = Sum(a, b, c, d)
    """)
    assert len({str(shape_of[name]) for name in "abcdx"}) == 5


LOST = """
    c = Conv(x, w) p = GlobalAveragePool(c) n = NonZero(c) s = Shape(n) z = Constant<value_ints = [1]>()
    k = Gather(s, z) t = Sub(k, k) o = Constant<value_ints = [-1]>() rest = Sub(t, one)
    {target} r = Reshape(p, target) y = Tanh(r)"""  # sizes that depend on values, which are unknown
FLAT = LOST.format(target="target = Concat<axis = 0>(t, rest)")
MAPS = LOST.format(target="target = Concat<axis = 0>(t, t, t, rest)")


@pytest.mark.parametrize(
    ("image", "declared", "body", "expected"),
    [
        ("N, 3, 8, 8", "N, 5", FLAT, ["N", 5]),
        ("N, 3, 8, 8", "a, 5", FLAT, ["r.0", 5]),
        ("N, 3, 8, 8", "1, 5", FLAT, ["r.0", 5]),  # the batch of the export
        ("N, 3, 8, 8", "N, 1", FLAT, ["N", "r.1"]),
        ("N, 3, 8, 8", "a, b", FLAT, ["r.0", "r.1"]),
        ("N, 3, 8, 8", "N, 5, 4, 4", MAPS, ["N", 5, 4, 4]),
        ("N, 3, H, W", "N, 5", FLAT, ["N", 5]),
        (
            "N, 3, H, W",
            "N, 5, 4, 4",
            MAPS,
            ["N", "r.1", "r.2", "r.3"],
        ),  # perhaps those of the export
        ("N, 3, H, W", "N, 5, 4, 4", "y = Conv(x, w)", ["N", 5, "(H-2)", "(W-2)"]),
        ("N, 3, 8, 8", "7, 9, 4, 4", "y = Conv(x, w)", ["N", 5, 6, 6]),
        ("4, 3, 8, 8", "4, 5", FLAT, [4, 5]),
    ],
)
def test_declared_sizes_of_outputs_replace_invented_names(
    image: str, declared: str, body: str, expected: Any
) -> None:
    """Numbers and names of input sizes replace names that the inference invented."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    net (float[{image}] x) => (float[{declared}] y) {{ {body} }}"""
    proto = parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(numbers(5, 3, 3, 3), "w"))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    tensors = load(proto).graph.tensors()
    invented = re.compile(r"unk__.*|r\.\d|a|b")
    for dim, size in zip(tensors["y"].shape, expected, strict=True):
        assert invented.fullmatch(dim) if str(size).startswith("r.") else dim == size
    if "r" in tensors:
        assert tensors["r"].shape == tensors["y"].shape


@pytest.mark.parametrize(
    ("resize", "expected"),
    [
        ("y = Resize(x, none, scales)", ["N", 3, 16, 16]),
        ("y = Resize<axes = [2, 3]>(x, none, two)", ["N", 3, 16, 16]),
        ("y = Resize<axes = [-1, -2]>(x, none, two)", ["N", 3, 16, 16]),
        ("s = Identity(more) y = Resize(x, none, s)", None),  # not constant
    ],
)
def test_resize_keeps_the_names_of_sizes_with_a_scale_of_one(resize: str, expected: Any) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
    net (float[N, 3, 8, 8] x, float[4] more) => (float[A, B, C, D] y)
    <float[0] none = {{}}, float[4] scales = {{1.0, 1.0, 2.0, 2.0}}, float[2] two = {{2.0, 2.0}}>
    {{ {resize} }}"""
    shape = load(parser.parse_model(text)).graph.tensors()["y"].shape
    assert shape == expected if expected else shape[0] != "N"
