"""Gradients by a table of rules, of a model written as text."""

from collections.abc import Mapping

import numpy as np
import onnx

from onnxcam.arrays import Array, Floats
from onnxcam.autodiff.rule_table import Rules
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import assert_valid, run, with_output_types


def written(
    text: str, opset: int = 17, shape: str = "n, 4, 3, 3", constants: str = ""
) -> onnx.ModelProto:
    """The model from x to y of some lines."""
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": {opset}]>
        net (float[{shape}] x) => (float y) <{constants}> {{ {text} }}"""
    )
    return with_output_types(proto)


def bent_gradient(
    proto: onnx.ModelProto,
    rules: str | Rules,
    x: Array,
    seed: Array | None = None,
    others: Mapping[str, Array] | None = None,
) -> Floats:
    """The gradient at x of the product of y and the seed, by default the sum of y, by a table of rules."""
    augmented = gradient(load(proto), ["x"], "y", rules).proto()
    assert_valid(augmented)
    if seed is None:
        (y,) = run(proto, {"x": x}, ["y"])
        seed = np.ones_like(y)
    feed = {"x": x, SEED: seed, **(others or {})}
    return np.asarray(run(augmented, feed, ["gradient/x"])[0])
