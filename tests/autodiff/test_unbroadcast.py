"""Sums over axes that turn out to be broadcast when the model is run."""

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from onnx import parser

from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import numbers, run

TEXT = """<ir_version: 8, opset_import: ["" : {opset}]>
net (float[{a}] a, float[{b}] b) => (float[P, Q, R] y) {{ y = Mul(a, b) }}"""
SIZES = [  # of a, of b
    ((2, 3, 4), (2, 3, 4)),
    ((1, 3, 4), (2, 3, 4)),
    ((2, 1, 4), (2, 3, 4)),
    ((2, 3, 1), (1, 3, 4)),
    ((1, 3, 1), (2, 1, 4)),
    ((1, 1, 1), (2, 3, 4)),
    ((1, 1, 1), (1, 1, 1)),
    ((3, 1), (2, 3, 4)),
    ((4,), (2, 3, 4)),
    ((1,), (2, 1, 4)),
]


def names(letter: str, shape: tuple[int, ...]) -> str:
    return ", ".join(f"{letter}{axis}" for axis in range(len(shape)))


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize(("first", "second"), SIZES)
def test_gradient_of_unknown_sizes_is_summed(first: Any, second: Any, opset: int) -> None:
    text = TEXT.format(opset=opset, a=names("a", first), b=names("b", second))
    model = gradient(load(parser.parse_model(text)), wrt=["a", "b"], of="y")
    a, b = numbers(*first), numbers(*second, seed=1)
    seed = numbers(*np.broadcast_shapes(first, second), seed=2)
    outputs = ["gradient/a", "gradient/b"]
    gradients = run(model.proto(), {"a": a, "b": b, SEED: seed}, outputs)
    for computed, factor, shape in zip(gradients, (b, a), (first, second), strict=True):
        product, lead = seed * factor, seed.ndim - len(shape)
        axes = [i for i, size in enumerate(product.shape) if i < lead or shape[i - lead] != size]
        expected = product.sum(tuple(axes), keepdims=True).reshape(shape)
        np.testing.assert_allclose(computed, expected, rtol=1e-5, atol=1e-6)


def test_gradient_of_unknown_sizes_has_constant_axes() -> None:
    """OpenVINO refuses computed ones."""
    text = TEXT.format(opset=18, a="a0, a1, a2", b="b0, b1, b2")
    nodes = gradient(load(parser.parse_model(text)), wrt=["a", "b"], of="y").graph.nodes
    sums = [node for node in nodes if node.op == "ReduceSum"]
    assert sums
    assert all(isinstance(node.inputs[1], gs.Constant) for node in sums)
