"""What is added inside the model to the image, or to the activation at which it is cut."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from onnxcam.arrays import cast_saturating
from onnxcam.model.load import load
from onnxcam.rewrite.sampled_inputs import add_offset
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from onnxcam.specs import OFFSET, SCALE
from tests.support.nets import DEEP, FIXED, POOLED, Net, random_images

NOISE_VALUES = np.random.default_rng(0).standard_normal((4, 3, 8, 8), dtype=np.float32)


def noisy_session(net: Net) -> Session:
    model = load(net.content())
    add_offset(model.graph, "x")
    onnx.checker.check_model(model.proto(), full_check=True)
    return Session(model.bytes(), Device("cpu"), threads=1)


def run(session: Session, x: Any, noise: Any, scale: float) -> Any:
    """All samples have the same scale."""
    return run_scaled(session, x, noise, np.full(len(noise), scale))


def run_scaled(session: Session, x: Any, noise: Any, scales: Any) -> Any:
    feeds = {"x": x, OFFSET: noise, SCALE: np.asarray(scales, np.float32)}
    return session.run(session.outputs[:1], feeds)[0]


@pytest.mark.parametrize("net", [DEEP, POOLED])
def test_noise_is_added_to_one_image_or_several(net: Net) -> None:
    x = random_images(4)
    plain = Session(net.content(), Device("cpu"), threads=1)
    for images in (x[:1], x):
        expected: Any = plain.run(
            plain.outputs[:1], {"x": images + np.float32(0.3) * NOISE_VALUES}
        )[0]
        np.testing.assert_allclose(
            run(noisy_session(net), images, NOISE_VALUES, 0.3), expected, rtol=1e-6
        )


def test_samples_have_scales_of_their_own() -> None:
    """With one offset that they share, too, as on a path from a baseline."""
    x, scales = random_images(1), np.array([0.0, 0.5, 1.0, -2.0], np.float32)
    plain = Session(DEEP.content(), Device("cpu"), threads=1)
    for offsets in (NOISE_VALUES, NOISE_VALUES[:1]):
        moved = x + scales[:, None, None, None] * offsets
        expected: Any = plain.run(plain.outputs[:1], {"x": moved})[0]
        actual = run_scaled(noisy_session(DEEP), x, offsets, scales)
        np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_zero_noise_changes_nothing() -> None:
    x, plain = random_images(4), Session(DEEP.content(), Device("cpu"), threads=1)
    expected = plain.run(plain.outputs[:1], {"x": x})[0]
    np.testing.assert_array_equal(
        run(noisy_session(DEEP), x, np.zeros((1, 1, 1, 1), np.float32), 0.0), expected
    )


def test_batch_axis_may_have_any_name() -> None:
    """Even the name that the axis of the images gets, which are fewer."""
    for name in ("images", "N", "batch"):
        net = replace(DEEP, shape=f"{name}, 3, 8, 8", outputs=f"float[{name}, 5] probabilities")
        assert len(run(noisy_session(net), random_images(1), NOISE_VALUES, 1.0)) == 4


def test_fixed_batch_applies_to_noise() -> None:
    session = noisy_session(FIXED)
    assert len(run(session, random_images(1), NOISE_VALUES[:1], 1.0)) == 1


KINDS = [np.uint8, np.int8, np.float16, np.float64]


@pytest.mark.parametrize("kind", KINDS)
def test_noisy_image_keeps_dtype(kind: type[np.generic]) -> None:
    """Integers are rounded and saturated."""
    code = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    x = onnx.helper.make_tensor_value_info("x", code, ["N", 3, 8, 8])
    y = onnx.helper.make_tensor_value_info("y", code, ["N", 3, 8, 8])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    opset = onnx.helper.make_opsetid("", 13)
    model = load(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8))
    add_offset(model.graph, "x")
    session = Session(model.bytes(), Device("cpu"), threads=1)
    image = np.random.default_rng(1).integers(0, 128, (1, 3, 8, 8)).astype(kind)
    expected: Any = cast_saturating(image + np.float32(90) * NOISE_VALUES, np.dtype(kind))
    if np.dtype(kind).kind in "iu":
        limits: Any = np.iinfo(np.dtype(kind))
        assert {expected.min(), expected.max()} == {limits.min, limits.max}
    actual = run(session, image, NOISE_VALUES, 90.0)
    assert actual.dtype == kind
    np.testing.assert_array_equal(actual, expected)


def test_noise_reaches_subgraphs() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 16]>
    g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) {
        total = ReduceSum<keepdims = 0>(x)
        zero = Constant<value = float {0}>()
        positive = Greater(total, zero)
        y = If (positive) <
            then_branch = t () => (float[N, 3, 8, 8] a) { a = Add(x, x) },
            else_branch = e () => (float[N, 3, 8, 8] b) { b = Neg(x) }
        >
    }"""
    model = load(onnx.parser.parse_model(text))
    add_offset(model.graph, "x")
    session = Session(model.bytes(), Device("cpu"), threads=1)
    x = np.full((1, 3, 8, 8), 9, np.float32)
    np.testing.assert_array_equal(
        run(session, x, NOISE_VALUES[:1], 1.0), 2 * (x + NOISE_VALUES[:1])
    )
