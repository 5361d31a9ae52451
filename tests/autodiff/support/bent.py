"""Gradients by a table of rules, of a model written as text."""

from collections.abc import Mapping

import numpy as np
import onnx

from onnxcam.arrays import Array, Floats
from onnxcam.autodiff.rule_table import Rules
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from onnxcam.specs import REFERENCE
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


def multipliers(proto: onnx.ModelProto, x: Array, reference: Array, seed: Array) -> Floats:
    """What DeepLIFT has in place of the gradient at x."""
    return bent_gradient(proto, "deep-lift", x, seed, {REFERENCE: reference})


def gap(proto: onnx.ModelProto, x: Floats, reference: Floats) -> float:
    """By how much the sum of (x - x') m misses the difference of the scores, in parts of the larger one of it
    and of what the single numbers of y add to it, in absolute value.
    """
    y, y0 = (np.asarray(run(proto, {"x": image}, ["y"])[0], np.float64) for image in (x, reference))
    seed = np.random.default_rng(1).normal(size=y.shape).astype(np.float32)
    m = multipliers(proto, x, reference, seed)
    assert m.shape == x.shape
    assert np.isfinite(m).all()
    exact = np.sum(seed * (y - y0))
    total = np.sum((x.astype(np.float64) - reference) * m)
    return float(abs(total - exact) / np.abs(seed * (y - y0)).sum())
