"""The channel axis is derived from nearby operators; sizes decide only if there are none."""

import numpy as np
import pytest

from onnxcam.errors import ModelError
from onnxcam.model.channel_axis import channel_axes
from onnxcam.model.image_input import image_input
from onnxcam.specs import ImageInput
from tests.model.support.texts import load_text


def axes(text: str, **weights: tuple[int, ...]) -> dict[str, int]:
    return channel_axes(load_text(text, **weights).graph)


def test_convolution_sets_channel_axis_of_input_and_output() -> None:
    channels = axes(
        "(float[N, 8, 8, 3] x) => (float[N, 4, 8, 3] y) { s = Sigmoid(x) c = Conv(s, w) y = Relu(c) }",
        w=(4, 8, 1, 1),
    )
    assert channels == {"x": 1, "s": 1, "c": 1, "y": 1}


def test_transpose_moves_channel_axis_in_both_directions() -> None:
    channels = axes(
        """(float[N, 8, 8, 3] x) => (float[N, 8, 8, 4] z) {
            s = Sigmoid(x)
            t = Transpose<perm = [0, 3, 1, 2]>(s)
            c = Conv(t, w)
            r = Transpose<perm = [0, 2, 3, 1]>(c)
            z = Relu(r) }""",
        w=(4, 3, 1, 1),
    )
    assert channels == {"x": 3, "s": 3, "t": 1, "c": 1, "r": 3, "z": 3}


def test_reshape_ends_channel_axis() -> None:
    channels = axes(
        """(float[N, 3, 8, 8] x) => (float[N, 8, 8, 4] z) {
            c = Conv(x, w)
            k = Constant<value_ints = [0, 8, 8, 4]>()
            r = Reshape(c, k)
            z = Relu(r) }""",
        w=(4, 3, 1, 1),
    )
    assert "z" not in channels


def test_operands_of_addition_share_channel_axis() -> None:
    channels = axes(
        """(float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] z) {
            a = Sigmoid(x) b = Tanh(x) m = MaxPool<kernel_shape = [1, 1]>(a) z = Add(m, b) }"""
    )
    assert channels["b"] == channels["x"] == 1


FLOAT = np.dtype(np.float32)


@pytest.mark.parametrize(
    ("text", "expected"),
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
            # the operator decides, although the sizes look like channels last
            "(float[N, 32, 24, 3] x) => (float[N, 32, 1, 1] y) { y = GlobalAveragePool(x) }",
            ImageInput("x", "NCHW", 32, 24, 3, None, FLOAT),
        ),
    ],
)
def test_image_input_layout_and_sizes(text: str, expected: ImageInput) -> None:
    assert image_input(load_text(text)) == expected


def test_model_without_image_input_is_refused() -> None:
    text = """(float[N, 3] a, int64[2] b) => (float[N, 3] y, int64[2] z)
        { y = Relu(a) z = Neg(b) }"""
    with pytest.raises(ModelError, match=r"no input accepts images .*a \['N', 3\], b \[2\]"):
        image_input(load_text(text))


def test_model_with_other_inputs_is_refused() -> None:
    text = """(float[N, 3, 4, 4] x, float[N, 3, 4, 4] m, float[1] s) => (float[N, 3, 4, 4] y)
        { p = Mul(x, m) y = Mul(p, s) }"""
    with pytest.raises(ModelError, match="has the inputs m, s in addition to the image 'x'"):
        image_input(load_text(text))


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
def test_free_channels_are_read_from_first_convolution(body: str, channels: int | None) -> None:
    weights = """<float[6, 2, 1, 1] w = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, float[1] k = {2},
        int64[8] p = {0, 0, 0, 0, 0, 0, 0, 0}>"""
    text = f"(float[N, C, H, W] x) => (float[N, K, H, W] y) {weights} {{ {body} }}"
    assert image_input(load_text(text)).channels == channels


@pytest.mark.parametrize("channels", [2, 4, 1 << 20])
@pytest.mark.parametrize("body", ["y = Conv(x, w)", "s = Mul(x, k) y = Conv(s, w)"])
def test_channels_unlike_those_of_convolution_are_refused(body: str, channels: int) -> None:
    text = f"""(float[N, {channels}, 4, 4] x) => (float[N, K, H, W] y)
        <float[1, 3, 1, 1] w = {{1, 1, 1}}, float[1] k = {{2}}> {{ {body} }}"""
    with pytest.raises(
        ModelError, match=f"'x' is declared with {channels} channels, but .* expects 3"
    ):
        image_input(load_text(text))


def test_one_channel_broadcast_to_convolution_is_accepted() -> None:
    text = """(float[N, 1, 4, 4] x) => (float[N, K, H, W] y)
        <float[1, 3, 1, 1] w = {1, 1, 1}, float[3, 1, 1] mean = {1, 2, 3}>
        { s = Sub(x, mean) y = Conv(s, w) }"""
    assert image_input(load_text(text)).channels == 1


def test_free_channels_before_transpose_are_read_from_convolution() -> None:
    text = """(float[N, H, W, C] x) => (float[N, K, H, W] y)
        <float[1, 4, 1, 1] w = {1, 1, 1, 1}>
        { t = Transpose<perm = [0, 3, 1, 2]>(x) y = Conv(t, w) }"""
    image = image_input(load_text(text))
    assert (image.layout, image.channels) == ("NHWC", 4)


def test_input_of_text_is_not_taken_for_flat_images() -> None:
    model = load_text("(string[N] x) => (string[N] y) { y = StringNormalizer(x) }")
    with pytest.raises(
        ModelError, match=r"no input accepts images \(four axes\); its inputs: x \['N'\]$"
    ):
        image_input(model)
