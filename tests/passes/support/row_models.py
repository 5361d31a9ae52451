"""Small models of rows and columns, and their gradients with and without `drop_unneeded_rows`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnxcam.arrays import Array
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.rewrite.gradient import gradient
from onnxcam.specs import SEED
from tests.autodiff.support.check import numbers, run

CONSTANTS: dict[str, Array] = {
    "first": np.array(0),
    "last": np.array(-1),
    "list": np.array([1]),
    "two": np.array([6, 2]),
    "repeated": np.array([2, 2]),
    "pairs": np.array([[6, 2], [2, -3]]),
    "joined": np.array([0, 0, -1]),
    **{f"i{index}": np.array([index]) for index in (0, 1, 2, 3, 4, 7, 9)},
    "end": np.array([2**62]),
    "back": np.array([-(2**62)]),
    "minus": np.array([-1]),
    "minus2": np.array([-2]),
    "w": numbers(8, 8, seed=1),
    "scale": numbers(8, seed=2),
    "pos": numbers(1, 9, 8, seed=3),
    "table": numbers(9, 8, seed=4),
    "column": numbers(9, 1, seed=5),
    "mask": np.arange(9).reshape(9, 1) % 2 == 0,
    "heads": np.array([0, 9, 2, 4]),
    "merged": np.array([-1, 9, 8]),
    "flat": np.array([-1, 72]),
    "halves": np.array([4, 4]),
    "half": np.array(0.5, np.float32),
    "step": np.array(0.03, np.float32),
    "zero": np.array(3, np.uint8),
    "steps": np.linspace(0.02, 0.04, 9, dtype=np.float32),
    "zeros": np.full(9, 3, np.uint8),
    "transposed": np.array([-1, 8, 9]),
    "batch_of_one": np.array([1, 3, 2, 4]),
}


PICK = "y = Gather<axis = 1>(z, first)"


def model_of(
    body: str, x: str = "N, 9, 8", opset: int = 17, outputs: str = "float[N, k] y"
) -> Model:
    """A model of one input whose last tensor is `y`; the names of CONSTANTS are initializers."""
    text = f'<ir_version: 8, opset_import: ["": {opset}]> net (float[{x}] x) => ({outputs}) {{ {body} }}'
    proto = parser.parse_model(text)
    read = {name for node in proto.graph.node for name in node.input}
    constants = [(name, array) for name, array in CONSTANTS.items() if name in read]
    proto.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in constants
    )
    return load(proto)


def narrowed_operators(model: Model) -> list[str]:
    """The operators whose outputs lost rows, in order."""
    return [
        node.op
        for node in model.graph.nodes
        if any("/rows/" in tensor.name for tensor in node.outputs)
    ]


def check_gradient(
    model: Model, wrt: Sequence[str], x: Array | None = None, of: str = "y"
) -> Model:
    """The gradient model, after a comparison of all its outputs with one that keeps all rows."""
    after = gradient(model, wrt, of)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onnxcam.rewrite.gradient.drop_unneeded_rows", lambda graph, kept: None)
        before = gradient(model, wrt, of)
    names = [tensor.name for tensor in before.graph.outputs]
    assert [tensor.name for tensor in after.graph.outputs] == names
    image = model.graph.inputs[0]
    shape = [dim if isinstance(dim, int) else 2 for dim in image.shape]
    feed: dict[str, Any] = {image.name: numbers(*shape) if x is None else x}
    feed[SEED] = numbers(*run(model.proto(), feed, [of])[0].shape, seed=7)
    onnx.checker.check_model(after.proto(), full_check=True)
    pairs = zip(run(after.proto(), feed, names), run(before.proto(), feed, names), strict=True)
    for name, (actual, expected) in zip(names, pairs, strict=True):
        assert actual.shape == expected.shape, name
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6, err_msg=name)
    return after
