"""The channel axis is read from the operators, never guessed from the sizes while one is near."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcam.errors import ModelError
from onnxcam.model.channel_axis import channel_axes
from onnxcam.model.image_input import image_input
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.specs import ImageInput


def model(text: str, opset: int = 17, /, **weights: tuple[int, ...]) -> Model:
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": {opset}]> net {text}')
    for name, shape in weights.items():
        zeros = np.zeros(shape, np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(zeros, name))
    return load(proto)


def axes(text: str, **weights: tuple[int, ...]) -> dict[str, int]:
    return channel_axes(model(text, **weights).graph)


def test_convolutions_say_it_of_what_they_read_and_write() -> None:
    found = axes(
        "(float[N, 8, 8, 3] x) => (float[N, 4, 8, 3] y) { s = Sigmoid(x) c = Conv(s, w) y = Relu(c) }",
        w=(4, 8, 1, 1),
    )
    assert found == {"x": 1, "s": 1, "c": 1, "y": 1}


def test_a_transpose_carries_it_both_ways() -> None:
    found = axes(
        """(float[N, 8, 8, 3] x) => (float[N, 8, 8, 4] z) {
            s = Sigmoid(x)
            t = Transpose<perm = [0, 3, 1, 2]>(s)
            c = Conv(t, w)
            r = Transpose<perm = [0, 2, 3, 1]>(c)
            z = Relu(r) }""",
        w=(4, 3, 1, 1),
    )
    assert found == {"x": 3, "s": 3, "t": 1, "c": 1, "r": 3, "z": 3}


def test_a_reshape_forgets_it() -> None:
    found = axes(
        """(float[N, 3, 8, 8] x) => (float[N, 8, 8, 4] z) {
            c = Conv(x, w)
            k = Constant<value_ints = [0, 8, 8, 4]>()
            r = Reshape(c, k)
            z = Relu(r) }""",
        w=(4, 3, 1, 1),
    )
    assert "z" not in found


def test_what_is_added_is_alike() -> None:
    found = axes(
        """(float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] z) {
            a = Sigmoid(x) b = Tanh(x) m = MaxPool<kernel_shape = [1, 1]>(a) z = Add(m, b) }"""
    )
    assert found["b"] == found["x"] == 1


FLOAT = np.dtype(np.float32)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "(float[N, 3, 32, 24] x) => (float[N, 3, 1, 1] y) { y = GlobalAveragePool(x) }",
            ImageInput("x", "NCHW", 3, 32, 24, None, FLOAT),
        ),
        (
            "(float[2, 3, H, W] x) => (float[2, 3, 1, 1] y) { y = GlobalAveragePool(x) }",
            ImageInput("x", "NCHW", 3, None, None, 2, FLOAT),
        ),
        (
            """(uint8[1, 32, 24, 3] x) => (float[1, 3, 32, 24] y)
                { c = Cast<to = 1>(x) y = Transpose<perm = [0, 3, 1, 2]>(c) }""",
            ImageInput("x", "NHWC", 3, 32, 24, 1, np.dtype(np.uint8)),
        ),
        (
            "(float[N, 32, 24, 3] x) => (float[N, 32, 24, 3] y) { y = Relu(x) }",
            ImageInput("x", "NHWC", 3, 32, 24, None, FLOAT),
        ),
        (
            "(float[N, 3, 24, 3] x) => (float[N, 3, 24, 3] y) { y = Relu(x) }",
            ImageInput("x", "NCHW", 3, 24, 3, None, FLOAT),
        ),
        (
            # the sizes say channels last, the operator says no
            "(float[N, 32, 24, 3] x) => (float[N, 32, 1, 1] y) { y = GlobalAveragePool(x) }",
            ImageInput("x", "NCHW", 32, 24, 3, None, FLOAT),
        ),
    ],
)
def test_image_input(text: str, found: ImageInput) -> None:
    assert image_input(model(text)) == found


def test_models_without_a_picture() -> None:
    text = """(float[N, 3] a, int64[2] b) => (float[N, 3] y, int64[2] z)
        { y = Relu(a) z = Neg(b) }"""
    with pytest.raises(ModelError, match=r"no input takes images .*a \['N', 3\], b \[2\]"):
        image_input(model(text))


def test_models_that_take_more_than_a_picture() -> None:
    text = """(float[N, 3, 4, 4] x, float[N, 3, 4, 4] m, float[1] s) => (float[N, 3, 4, 4] y)
        { p = Mul(x, m) y = Mul(p, s) }"""
    with pytest.raises(ModelError, match="has the inputs m, s in addition to the image 'x'"):
        image_input(model(text))


@pytest.mark.parametrize(
    ("body", "channels"),
    [
        ("y = Conv(x, w)", 2),
        ("y = Conv<group = 3>(x, w)", 6),
        ("c = Cast<to = 1>(x) s = Sub(c, k) d = Mul(s, k) y = Conv(d, w)", 2),
        ("r = Pad(x, p) y = Conv(r, w)", None),  # may add channels
        ("y = Relu(x)", None),
    ],
)
def test_free_channels_are_those_of_the_first_weights(body: str, channels: int | None) -> None:
    weights = """<float[6, 2, 1, 1] w = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, float[1] k = {2},
        int64[8] p = {0, 0, 0, 0, 0, 0, 0, 0}>"""
    text = f"(float[N, C, H, W] x) => (float[N, K, H, W] y) {weights} {{ {body} }}"
    assert image_input(model(text)).channels == channels


@pytest.mark.parametrize("channels", [2, 4, 1 << 20])
@pytest.mark.parametrize("body", ["y = Conv(x, w)", "s = Mul(x, k) y = Conv(s, w)"])
def test_channels_that_the_convolution_does_not_take(body: str, channels: int) -> None:
    text = f"""(float[N, {channels}, 4, 4] x) => (float[N, K, H, W] y)
        <float[1, 3, 1, 1] w = {{1, 1, 1}}, float[1] k = {{2}}> {{ {body} }}"""
    with pytest.raises(
        ModelError, match=f"'x' is declared with {channels} channels, but .* takes 3"
    ):
        image_input(model(text))


def test_one_channel_that_is_broadcast_to_those_of_the_convolution() -> None:
    text = """(float[N, 1, 4, 4] x) => (float[N, K, H, W] y)
        <float[1, 3, 1, 1] w = {1, 1, 1}, float[3, 1, 1] mean = {1, 2, 3}>
        { s = Sub(x, mean) y = Conv(s, w) }"""
    assert image_input(model(text)).channels == 1


def test_free_channels_behind_a_transpose() -> None:
    text = """(float[N, H, W, C] x) => (float[N, K, H, W] y)
        <float[1, 4, 1, 1] w = {1, 1, 1, 1}>
        { t = Transpose<perm = [0, 3, 1, 2]>(x) y = Conv(t, w) }"""
    found = image_input(model(text))
    assert (found.layout, found.channels) == ("NHWC", 4)
