"""Conv with every awkward window: tails, gaps, uneven and wide pads, groups, one to three dimensions."""

from typing import Any

import numpy as np
import pytest
from onnx import helper, parser

from onnxcam.errors import ModelError
from tests.autodiff.support.check import check_model, check_vjp, numbers, one_node_model
from tests.autodiff.support.linear import check_linear

WINDOWS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((2, 3, 6, 7), (4, 3, 3, 3), {}),
    "pads": ((1, 2, 6, 7), (3, 2, 3, 3), {"pads": [1, 1, 1, 1]}),
    "uneven pads": ((1, 2, 6, 7), (3, 2, 3, 3), {"pads": [0, 2, 1, 0]}),
    "pads as wide as the kernel": ((1, 2, 5, 6), (3, 2, 3, 2), {"pads": [3, 2, 4, 3]}),
    "wide pads, stride": ((1, 2, 5, 6), (3, 2, 3, 2), {"pads": [3, 2, 4, 3], "strides": [2, 3]}),
    "stride": ((1, 2, 7, 9), (3, 2, 3, 3), {"strides": [2, 2]}),
    "stride with a tail": ((1, 2, 8, 10), (3, 2, 3, 3), {"strides": [2, 4]}),
    "stride beyond the kernel": ((1, 2, 8, 11), (3, 2, 2, 1), {"strides": [3, 4]}),
    "uneven pads, stride": ((1, 2, 8, 9), (3, 2, 3, 3), {"strides": [2, 3], "pads": [0, 2, 1, 0]}),
    "pointwise": ((2, 4, 3, 3), (5, 4, 1, 1), {}),
    "pointwise, stride": ((2, 4, 5, 6), (5, 4, 1, 1), {"strides": [2, 2]}),
    "dilations": ((1, 2, 8, 9), (3, 2, 3, 2), {"dilations": [2, 3], "pads": [1, 0, 2, 1]}),
    "dilations, stride": ((1, 2, 9, 10), (3, 2, 3, 2), {"dilations": [2, 3], "strides": [2, 2]}),
    "groups": ((1, 4, 5, 5), (6, 2, 3, 3), {"group": 2, "pads": [1, 0, 0, 1]}),
    "groups, stride": ((1, 4, 6, 6), (6, 2, 3, 3), {"group": 2, "strides": [2, 2]}),
    "depthwise": ((1, 4, 5, 5), (4, 1, 3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
    "depthwise, stride": ((1, 3, 6, 7), (6, 1, 3, 3), {"group": 3, "strides": [2, 2]}),
    "even kernel": ((1, 2, 5, 6), (3, 2, 2, 4), {"pads": [1, 2, 0, 1]}),
    "one dimension": ((2, 3, 9), (4, 3, 3), {"strides": [2], "pads": [1, 0]}),
    "one dimension, stride 1": ((2, 3, 9), (4, 3, 4), {"dilations": [2], "pads": [1, 3]}),
    "three dimensions": ((1, 2, 4, 5, 6), (3, 2, 2, 3, 2), {"strides": [1, 2, 2]}),
    "three dimensions, stride 1": ((1, 2, 4, 4, 4), (2, 2, 2, 3, 2), {"pads": [1, 1, 0, 0, 1, 1]}),
    "same upper": ((1, 2, 7, 8), (3, 2, 3, 2), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    "same lower": ((1, 2, 7, 8), (3, 2, 4, 2), {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
    "same upper, stride 1": ((1, 2, 5, 6), (3, 2, 4, 2), {"auto_pad": "SAME_UPPER"}),
    "same lower, stride 1": ((1, 2, 5, 6), (3, 2, 4, 2), {"auto_pad": "SAME_LOWER"}),
    "same, kernel below stride": (
        (1, 2, 8, 8),
        (3, 2, 1, 2),
        {"auto_pad": "SAME_UPPER", "strides": [3, 3]},
    ),
    "valid": ((1, 2, 7, 8), (3, 2, 3, 2), {"auto_pad": "VALID", "strides": [2, 3]}),
}


@pytest.mark.parametrize("dynamic", [(), (0,), (2, 3), (0, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("window", WINDOWS)
def test_conv(window: str, dynamic: tuple[int, ...]) -> None:
    size, kernel, attributes = WINDOWS[window]
    bias = numbers(kernel[0], seed=3)
    check_vjp("Conv", numbers(*size), numbers(*kernel, seed=1), bias, dynamic=dynamic, **attributes)


DEPTHWISE: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "pads": ((2, 3, 6, 8), (3, 1, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "odd": ((1, 3, 7, 9), (3, 1, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "tail": ((1, 2, 8, 10), (2, 1, 3, 3), {"strides": [2, 4]}),
    "uneven": ((1, 2, 9, 8), (2, 1, 5, 3), {"strides": [2, 3], "pads": [0, 2, 1, 0]}),
    "below the stride": ((1, 2, 8, 11), (2, 1, 2, 1), {"strides": [3, 4]}),
    "wide pads": ((1, 2, 5, 6), (2, 1, 3, 2), {"strides": [2, 3], "pads": [3, 2, 4, 3]}),
    "dilations": ((1, 2, 9, 10), (2, 1, 3, 2), {"strides": [2, 2], "dilations": [2, 3]}),
    "same upper": ((1, 2, 7, 8), (2, 1, 3, 5), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    "one dimension": ((2, 3, 9), (3, 1, 3), {"strides": [2], "pads": [1, 0]}),
    "three": ((1, 2, 4, 5, 6), (2, 1, 2, 3, 2), {"strides": [1, 2, 2]}),
}


@pytest.mark.parametrize("dynamic", [(), (0,)], ids=str)
@pytest.mark.parametrize("window", DEPTHWISE)
def test_depthwise_conv_with_stride_is_a_conv(window: str, dynamic: tuple[int, ...]) -> None:
    """For known sizes: a convolution of the cotangent with zeros between its cells."""
    size, kernel, attributes = DEPTHWISE[window]
    attributes = {**attributes, "group": kernel[0]}
    model = check_vjp(
        "Conv", numbers(*size), numbers(*kernel, seed=1), dynamic=dynamic, **attributes
    )
    assert not any(node.op == "ConvTranspose" for node in model.graph.nodes)


@pytest.mark.parametrize("opset", [7, 12])
def test_depthwise_conv_before_opset_13_is_a_conv_transpose(opset: int) -> None:
    size, kernel, attributes = DEPTHWISE["uneven"]
    attributes = {**attributes, "group": kernel[0], "opset": opset}
    model = check_vjp("Conv", numbers(*size), numbers(*kernel, seed=1), **attributes)
    assert any(node.op == "ConvTranspose" for node in model.graph.nodes)


STEMS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "resnet": ((1, 3, 12, 14), (2, 3, 7, 7), {"strides": [2, 2], "pads": [3, 3, 3, 3]}),
    "squeezenet": ((1, 3, 11, 13), (2, 3, 7, 7), {"strides": [2, 2]}),
    "alexnet": ((1, 3, 23, 25), (2, 3, 11, 11), {"strides": [4, 4], "pads": [2, 2, 2, 2]}),
    "five": ((2, 1, 9, 10), (3, 1, 5, 5), {"strides": [2, 2], "pads": [2, 2, 2, 2]}),
    "tail": ((1, 3, 14, 16), (2, 3, 7, 7), {"strides": [3, 3]}),
    "uneven": ((1, 2, 9, 10), (3, 2, 5, 6), {"strides": [2, 2], "pads": [0, 3, 4, 1]}),
    "wide pads": ((1, 2, 9, 10), (3, 2, 5, 6), {"strides": [2, 2], "pads": [5, 5, 6, 7]}),
    "same": ((1, 2, 9, 10), (3, 2, 5, 6), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
}


@pytest.mark.parametrize("dynamic", [(), (0,)], ids=str)
@pytest.mark.parametrize("window", STEMS)
def test_stem_conv_is_a_subpixel_conv(window: str, dynamic: tuple[int, ...]) -> None:
    """A large kernel on few channels: one Conv for all phases of the stride."""
    size, kernel, attributes = STEMS[window]
    model = check_vjp(
        "Conv", numbers(*size), numbers(*kernel, seed=1), dynamic=dynamic, **attributes
    )
    assert any(node.op == "DepthToSpace" for node in model.graph.nodes)
    assert not any(node.op == "ConvTranspose" for node in model.graph.nodes)


def test_cotangents_of_windows_on_pads_are_cut_off() -> None:
    size, kernel, attributes = WINDOWS["pads as wide as the kernel"]
    model = check_vjp("Conv", numbers(*size), numbers(*kernel, seed=1), **attributes)
    assert [node.op for node in model.graph.nodes] == ["Conv", "Pad", "Conv", "Identity"]


@pytest.mark.parametrize("opset", [7, 11, 22])
@pytest.mark.parametrize("window", ["uneven pads, stride", "same lower", "groups"])
def test_conv_at_opset(window: str, opset: int) -> None:
    size, kernel, attributes = WINDOWS[window]
    check_vjp("Conv", numbers(*size), numbers(*kernel, seed=1), opset=opset, **attributes)


@pytest.mark.parametrize("size", [4, 5, 6, 7, 8])
@pytest.mark.parametrize("window", ["stride", "same lower", "same upper", "dilations, stride"])
def test_conv_of_dynamic_sizes_with_every_remainder(window: str, size: int) -> None:
    _, kernel, attributes = WINDOWS[window]
    x = numbers(1, 2, size + 1, size)
    check_vjp("Conv", x, numbers(*kernel, seed=1), dynamic=(2, 3), **attributes)


@pytest.mark.parametrize("window", ["pads", "stride with a tail", "groups, stride"])
def test_conv_with_computed_weights(window: str) -> None:
    """Weights known at run time only, as in a dequantized convolution or a hypernetwork."""
    size, kernel, attributes = WINDOWS[window]
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    net (float[{",".join(map(str, size))}] x, float[{",".join(map(str, kernel))}] v)
      => (float[{",".join("abcd"[: len(size)])}] y) {{
        w = Tanh(v)
        y = Conv<{", ".join(f"{k} = {v}" for k, v in attributes.items())}>(x, w)
    }}"""
    feed = {"x": numbers(*size), "v": numbers(*kernel, seed=1)}
    check_model(parser.parse_model(text), feed, ["x"], "y")


def test_conv_with_stride_one_is_a_conv() -> None:
    """One Conv with a flipped kernel, which is the fastest form."""
    model = check_vjp("Conv", numbers(1, 2, 5, 5), numbers(3, 2, 3, 3), pads=[1, 1, 1, 1])
    assert [node.op for node in model.graph.nodes] == ["Conv", "Conv", "Identity"]


def test_conv_with_stride_two_is_a_conv_transpose_with_even_pads() -> None:
    model = check_vjp(
        "Conv", numbers(1, 2, 8, 8), numbers(3, 2, 3, 3), strides=[2, 2], pads=[1, 0, 2, 1]
    )
    transposed = next(node for node in model.graph.nodes if node.op == "ConvTranspose")
    pads = transposed.attrs["pads"]
    assert pads[:2] == pads[2:]
    assert np.all(np.array(pads) >= 0)


TRANSPOSED: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((2, 4, 5, 6), (4, 3, 3, 3), {}),
    "stride": ((1, 2, 4, 5), (2, 3, 2, 2), {"strides": [2, 2]}),
    "stride, pads": ((1, 2, 4, 5), (2, 3, 4, 3), {"strides": [2, 3], "pads": [1, 0, 2, 1]}),
    "tail": (
        (1, 2, 4, 5),
        (2, 3, 3, 3),
        {"strides": [2, 3], "pads": [1, 1, 1, 1], "output_padding": [1, 2]},
    ),
    "stride beyond the kernel": ((1, 2, 3, 4), (2, 3, 2, 1), {"strides": [3, 4]}),
    "dilations": ((1, 2, 4, 5), (2, 3, 3, 2), {"dilations": [2, 3], "pads": [1, 0, 2, 1]}),
    "groups": ((1, 4, 4, 4), (4, 3, 3, 3), {"group": 2, "strides": [2, 2]}),
    "depthwise": ((1, 3, 4, 4), (3, 1, 4, 4), {"group": 3, "strides": [2, 2]}),
    "one dimension": ((2, 3, 5), (3, 4, 3), {"strides": [2], "pads": [1, 0]}),
    "three dimensions": ((1, 2, 3, 2, 3), (2, 3, 2, 3, 2), {"strides": [1, 2, 2]}),
    "same upper": ((1, 2, 4, 5), (2, 3, 4, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": ((1, 2, 4, 5), (2, 3, 4, 3), {"auto_pad": "SAME_LOWER", "strides": [1, 2]}),
    "valid": ((1, 2, 4, 5), (2, 3, 3, 3), {"auto_pad": "VALID", "strides": [2, 2]}),
}
OUTPUT_SHAPES: dict[str, dict[str, Any]] = {
    "less": {"output_shape": [7, 9], "strides": [2, 2]},
    "less, upper": {"output_shape": [6, 8], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    "more": {"output_shape": [10, 14], "strides": [2, 3], "output_padding": [1, 1]},
}


@pytest.mark.parametrize("dynamic", [(), (0,), (2, 3), (0, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("window", TRANSPOSED)
def test_conv_transpose(window: str, dynamic: tuple[int, ...]) -> None:
    size, kernel, attributes = TRANSPOSED[window]
    check_transposed(size, kernel, dynamic, **attributes)


def check_transposed(
    size: tuple[int, ...], kernel: tuple[int, ...], dynamic: tuple[int, ...], **attributes: Any
) -> None:
    """Against the runtime: onnx.reference is wrong for groups and for computed pads."""
    node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], **attributes)
    bias = numbers(kernel[1] * attributes.get("group", 1), seed=3)
    fixed = {"w": numbers(*kernel, seed=1), "b": bias}
    check_linear(one_node_model(node, {"x": numbers(*size)}, fixed, 17, dynamic), numbers(*size))


@pytest.mark.parametrize("output_shape", OUTPUT_SHAPES)
def test_conv_transpose_to_an_output_shape(output_shape: str) -> None:
    check_transposed((1, 2, 4, 5), (2, 3, 3, 3), (), **OUTPUT_SHAPES[output_shape])
    check_transposed((1, 2, 4, 5), (2, 3, 3, 3), (0,), **OUTPUT_SHAPES[output_shape])


def test_conv_transpose_of_dynamic_sizes_to_an_output_shape_is_refused() -> None:
    with pytest.raises(ModelError, match="needs fixed sizes"):
        check_transposed((1, 2, 4, 5), (2, 3, 3, 3), (2, 3), **OUTPUT_SHAPES["less"])


@pytest.mark.parametrize("opset", [7, 11, 22])
def test_conv_transpose_equals_differences(opset: int) -> None:
    size, kernel, attributes = TRANSPOSED["stride, pads"]
    x, w = numbers(*size), numbers(*kernel, seed=1)
    check_vjp("ConvTranspose", x, w, opset=opset, **attributes)
