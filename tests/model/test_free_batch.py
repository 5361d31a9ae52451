"""Models exported for one picture, freed of it where that can be."""

from dataclasses import replace
from typing import Any

import numpy as np
from onnx import parser

from onnxcam.model.free_batch import free_batch
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from tests.support.nets import DEEP, FIXED, MIXING, POOLED, pictures

X = pictures(3)


def run(model: Model, x: Any) -> Any:
    session = Session(model.bytes(), Device("cpu"), threads=1)
    return session.run(session.outputs, {"x": x})[0]


def test_a_baked_reshape_takes_any_number() -> None:
    fixed = load(FIXED.content())
    freed = free_batch(fixed, "x")
    assert freed is not None
    assert not isinstance(freed.graph.inputs[0].shape[0], int)
    np.testing.assert_allclose(run(freed, X), run(load(DEEP.content()), X), rtol=1e-5)
    np.testing.assert_allclose(run(freed, X[:1]), run(fixed, X[:1]), rtol=1e-6)


def test_the_model_itself_does_not_change() -> None:
    fixed = load(FIXED.content())
    before = fixed.bytes()
    free_batch(fixed, "x")
    assert fixed.bytes() == before
    assert fixed.graph.inputs[0].shape[0] == 1


def test_a_model_without_a_reshape() -> None:
    fixed = replace(POOLED, shape="1, 3, 8, 8", outputs="float[1, 5] probabilities")
    freed = free_batch(load(fixed.content()), "x")
    assert freed is not None
    np.testing.assert_allclose(run(freed, X), run(load(POOLED.content()), X), rtol=1e-5)


def test_a_batch_that_is_baked_into_the_output_stays() -> None:
    """The pictures are summed before the head: one row whatever goes in."""
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


def test_whether_pictures_mix_is_not_told_here() -> None:
    assert free_batch(load(MIXING.content()), "x") is not None


def test_a_class_token_is_repeated() -> None:
    """Exported for one picture, its Expand is a constant that is set before the cells."""
    text = """<ir_version: 8, opset_import: ["": 17]>
    net (float[1, 3, 4] x) => (float[1, 2] y)
    <float[1, 1, 4] token = {1.0, -2.0, 0.5, 3.0}, float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8},
     int64[3] target = {1, 2, 8}, int64[3] whole = {1, 4, 4}> {
        tokens = Concat<axis = 1>(token, x)
        pairs = Reshape(tokens, target)
        back = Reshape(pairs, whole)
        mixed = MatMul(back, w)
        y = ReduceMax<axes = [1], keepdims = 0>(mixed)
    }"""
    fixed = load(parser.parse_model(text))
    freed = free_batch(fixed, "x")
    assert freed is not None
    x = np.random.default_rng(0).standard_normal((3, 3, 4), dtype=np.float32)
    alone = np.concatenate([run(fixed, each[None]) for each in x])
    np.testing.assert_array_equal(run(freed, x), alone)
