"""Gradients of linear operators, held against the runtime's own values: no step, no reference."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from onnxcam.arrays import Array
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import TOLERANCE, assert_valid, numbers, run


def check_linear(proto: onnx.ModelProto, x: Array, more: Mapping[str, Any] | None = None) -> Model:
    """<seed, f(x) - f(0)> = <gradient, x> for several x; `more` is fed too. Returns the augmented model."""
    fixed = dict(more or {})
    augmented = gradient(load(proto), ["x"], "y")
    emitted = augmented.proto()
    assert_valid(emitted)
    y, nothing = (run(proto, {"x": each, **fixed}, ["y"])[0] for each in (x, np.zeros_like(x)))
    seed = numbers(*y.shape, seed=1)
    found = run(emitted, {"x": x, **fixed, SEED: seed}, ["gradient/x"])[0]
    assert found.shape == x.shape
    for each in (x, numbers(*x.shape, seed=2), numbers(*x.shape, seed=3)):
        y = run(proto, {"x": each, **fixed}, ["y"])[0]
        told, exact = np.vdot(found, each), np.vdot(seed, y - nothing)
        assert abs(told - exact) <= TOLERANCE * np.linalg.norm(found) * np.linalg.norm(each)
    return augmented
