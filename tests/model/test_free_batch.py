"""Models exported for a batch of one get a dynamic batch size where that is possible."""

from dataclasses import replace
from typing import Any

import numpy as np
from onnx import parser

from onnxcam.model.free_batch import free_batch
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from tests.support.nets import DEEP, FIXED, MIXING, POOLED, random_images

X = random_images(3)


def run(model: Model, x: Any) -> Any:
    session = Session(model.bytes(), Device("cpu"), threads=1)
    return session.run(session.outputs, {"x": x})[0]


def test_fixed_reshape_accepts_any_batch() -> None:
    fixed = load(FIXED.content())
    free = free_batch(fixed, "x")
    assert free is not None
    assert not isinstance(free.graph.inputs[0].shape[0], int)
    np.testing.assert_allclose(run(free, X), run(load(DEEP.content()), X), rtol=1e-5)
    np.testing.assert_allclose(run(free, X[:1]), run(fixed, X[:1]), rtol=1e-6)


def test_free_batch_does_not_change_model() -> None:
    fixed = load(FIXED.content())
    before = fixed.bytes()
    free_batch(fixed, "x")
    assert fixed.bytes() == before
    assert fixed.graph.inputs[0].shape[0] == 1


def test_model_without_reshape_accepts_any_batch() -> None:
    fixed = replace(POOLED, shape="1, 3, 8, 8", outputs="float[1, 5] probabilities")
    free = free_batch(load(fixed.content()), "x")
    assert free is not None
    np.testing.assert_allclose(run(free, X), run(load(POOLED.content()), X), rtol=1e-5)


def test_batch_fixed_in_output_returns_none() -> None:
    """The images are summed before the head: one output row for any input."""
    head = """
    summed = ReduceSum<keepdims = 1>(features, zero)
    pooled = GlobalAveragePool(summed)
    flat = Flatten(pooled)
    logits = Gemm<transB = 1>(flat, v, d)"""
    fixed = replace(
        POOLED, head=head, lead="    zero = Constant<value_ints = [0]>()",
        shape="1, 3, 8, 8", outputs="float[1, 5] logits",
    )  # fmt: skip
    assert free_batch(load(fixed.content()), "x") is None


def test_mixing_of_images_is_not_checked() -> None:
    assert free_batch(load(MIXING.content()), "x") is not None


def test_class_token_is_repeated() -> None:
    """Exported for one image, its class token is a constant in front of the other tokens."""
    text = """<ir_version: 8, opset_import: ["": 17]>
    net (float[1, 3, 4] x) => (float[1, 2] y)
    <float[1, 1, 4] token = {1.0, -2.0, 0.5, 3.0}, float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8},
     int64[3] target = {1, 2, 8}, int64[3] shape = {1, 4, 4}> {
        tokens = Concat<axis = 1>(token, x)
        pairs = Reshape(tokens, target)
        back = Reshape(pairs, shape)
        mixed = MatMul(back, w)
        y = ReduceMax<axes = [1], keepdims = 0>(mixed)
    }"""
    fixed = load(parser.parse_model(text))
    free = free_batch(fixed, "x")
    assert free is not None
    x = np.random.default_rng(0).standard_normal((3, 3, 4), dtype=np.float32)
    one_by_one = np.concatenate([run(fixed, row[None]) for row in x])
    np.testing.assert_array_equal(run(free, x), one_by_one)
