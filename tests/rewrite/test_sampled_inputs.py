"""Noise that the model adds by itself."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from onnxcam.arrays import cast_saturating
from onnxcam.model.load import load
from onnxcam.rewrite.sampled_inputs import add_noise
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from onnxcam.specs import NOISE, SPREAD
from tests.support.nets import DEEP, FIXED, POOLED, Net, random_images

DRAWN = np.random.default_rng(0).standard_normal((4, 3, 8, 8), dtype=np.float32)


def session(net: Net) -> Session:
    model = load(net.content())
    add_noise(model.graph, "x")
    onnx.checker.check_model(model.proto(), full_check=True)
    return Session(model.bytes(), Device("cpu"), threads=1)


def ran(made: Session, x: Any, noise: Any, spread: float) -> Any:
    feeds = {"x": x, NOISE: noise, SPREAD: np.array(spread, np.float32)}
    return made.run(made.outputs[:1], feeds)[0]


@pytest.mark.parametrize("net", [DEEP, POOLED])
def test_one_picture_and_pictures_under_noise(net: Net) -> None:
    x = random_images(4)
    plain = Session(net.content(), Device("cpu"), threads=1)
    for given in (x[:1], x):
        expected: Any = plain.run(plain.outputs[:1], {"x": given + np.float32(0.3) * DRAWN})[0]
        np.testing.assert_allclose(ran(session(net), given, DRAWN, 0.3), expected, rtol=1e-6)


def test_without_noise() -> None:
    x, plain = random_images(4), Session(DEEP.content(), Device("cpu"), threads=1)
    expected = plain.run(plain.outputs[:1], {"x": x})[0]
    np.testing.assert_array_equal(
        ran(session(DEEP), x, np.zeros((1, 1, 1, 1), np.float32), 0.0), expected
    )


def test_a_batch_of_any_name() -> None:
    """Also of the name that the fed pictures are given, which are fewer."""
    for name in ("pictures", "N", "batch"):
        net = replace(DEEP, shape=f"{name}, 3, 8, 8", outputs=f"float[{name}, 5] probabilities")
        assert len(ran(session(net), random_images(1), DRAWN, 1.0)) == 4


def test_a_fixed_batch_is_that_of_the_noise() -> None:
    made = session(FIXED)
    assert len(ran(made, random_images(1), DRAWN[:1], 1.0)) == 1


KINDS = [np.uint8, np.int8, np.float16, np.float64]


@pytest.mark.parametrize("kind", KINDS)
def test_in_the_type_of_the_picture(kind: type[np.generic]) -> None:
    """Whole numbers are rounded and saturated."""
    code = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    x = onnx.helper.make_tensor_value_info("x", code, ["N", 3, 8, 8])
    y = onnx.helper.make_tensor_value_info("y", code, ["N", 3, 8, 8])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    opset = onnx.helper.make_opsetid("", 13)
    model = load(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8))
    add_noise(model.graph, "x")
    made = Session(model.bytes(), Device("cpu"), threads=1)
    given = np.random.default_rng(1).integers(0, 128, (1, 3, 8, 8)).astype(kind)
    expected: Any = cast_saturating(given + np.float32(90) * DRAWN, np.dtype(kind))
    if np.dtype(kind).kind in "iu":
        limits: Any = np.iinfo(np.dtype(kind))
        assert {expected.min(), expected.max()} == {limits.min, limits.max}
    found = ran(made, given, DRAWN, 90.0)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, expected)


def test_a_picture_that_branches_read() -> None:
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
    add_noise(model.graph, "x")
    made = Session(model.bytes(), Device("cpu"), threads=1)
    x = np.full((1, 3, 8, 8), 9, np.float32)
    np.testing.assert_array_equal(ran(made, x, DRAWN[:1], 1.0), 2 * (x + DRAWN[:1]))
