"""What holds for every method with attributions at the image, however the model was exported and the images
are run.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxcam
from onnxcam.arrays import Floats
from onnxcam.methods import METHODS
from tests.support.layered_nets import CURVED
from tests.support.nets import DEEP, FIXED, MLP, NHWC, SOFTMAX, Net, random_images

X = random_images(3)
AT_IMAGE = [
    name for name, method in METHODS.items() if method.at == "image" and method.needs_gradient
]
FEW: dict[str, Any] = {"samples": 5, "steps": 9}  # runs
NOT_LINEAR = {"guided", "deconvnet"}  # rule tables that only positive factors pass through
SQUARES = {"smooth-grad-squared", "var-grad"}
PATH_OF_TARGET = {"guided-ig"}  # the gradients of the target choose the path
NEEDS_NOISE = {"var-grad"}  # else its map is empty
BYTES = Net(
    head=MLP + SOFTMAX,
    x="scaled",
    lead="""floats = Cast<to = 1>(x) span = Constant<value_float = 64.0>()
        small = Div(floats, span) one = Constant<value_float = 2.0>() scaled = Sub(small, one)""",
)
every_method = pytest.mark.parametrize("method", AT_IMAGE)


def few(method: str) -> dict[str, Any]:
    settings = METHODS[method].settings
    return {name: number for name, number in FEW.items() if name in settings}


def attribute(
    method: str, content: bytes, images: Any = X, target: Any = 1, **options: Any
) -> Floats:
    options = {"device": "cpu", "cache": False, **few(method), **options}
    explanation = onnxcam.Explainer(content, method, **options)(images, target)
    assert explanation.attributions is not None
    assert np.abs(explanation.attributions).max() > 0
    return explanation.attributions


def assert_near(actual: Floats, expected: Floats, tolerance: float = 1e-4) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


def bytes_model(kind: str) -> bytes:
    """The model whose image is divided by 64; `kind` is the type of its input."""
    proto = BYTES.proto()
    proto.graph.input[0].type.tensor_type.elem_type = getattr(onnx.TensorProto, kind)
    return bytes(proto.SerializeToString())


def half_model(content: bytes) -> bytes:
    proto = onnx.load_from_string(content)
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        )
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return bytes(proto.SerializeToString())


@every_method
def test_channels_last_model_gives_same_attributions(method: str) -> None:
    """Without noise, which is drawn in the layout of the model."""
    if method in NEEDS_NOISE:
        pytest.skip("the test of the method itself compares it on a model with channels last")
    options = {"noise": 0.0} if "noise" in METHODS[method].settings else {}
    expected = attribute(method, DEEP.content(), **options)
    actual = attribute(method, NHWC.content(), X.transpose(0, 2, 3, 1), **options)
    assert_near(actual, expected)


@every_method
def test_batch_chunk_and_fixed_batch_give_same_attributions(method: str) -> None:
    expected = attribute(method, DEEP.content())
    alone = [attribute(method, DEEP.content(), x) for x in X]
    assert_near(np.concatenate(alone), expected, 1e-6)
    for chunk in (1, 4):
        assert_near(attribute(method, DEEP.content(), chunk=chunk), expected, 1e-6)
    for fixed in (FIXED, replace(FIXED, head=DEEP.head, flatten=DEEP.flatten).with_batch("4")):
        assert_near(attribute(method, fixed.content()), expected, 1e-6)


@every_method
def test_half_precision_gives_nearly_the_same(method: str) -> None:
    """On a net without kinks, on whose two sides the precisions could fall."""
    expected = attribute(method, CURVED.content())
    actual = attribute(method, half_model(CURVED.content()), X.astype(np.float16))
    assert_near(actual, expected, 0.02)


@every_method
@pytest.mark.parametrize("kind", ["UINT8", "INT32"])
def test_image_of_integers_gives_those_of_the_floats(method: str, kind: str) -> None:
    pixels = np.rint(np.clip(48 * X + 128, 0, 255)).astype(kind.lower())
    expected = attribute(method, bytes_model("FLOAT"), pixels.astype(np.float32))
    assert_near(attribute(method, bytes_model(kind), pixels), expected)


@every_method
def test_contrast_is_the_difference_of_classes(method: str) -> None:
    content = CURVED.content()
    first, second, contrast = (attribute(method, content, target=t) for t in (1, 2, "1-2"))
    against = attribute(method, content, target="not 1")
    assert not np.array_equal(first, contrast)
    if method in SQUARES:
        assert_near(against, first)
    elif METHODS[method].rules not in NOT_LINEAR:
        if method not in PATH_OF_TARGET:
            assert_near(contrast, first - second)
        assert_near(against, -first)
