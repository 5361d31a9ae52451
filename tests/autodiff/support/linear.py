"""Gradients of linear operators, compared with the runtime's own values: exact, without a reference."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from onnxcam.arrays import Array
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import TOLERANCE, assert_valid, numbers, run
from tests.autodiff.support.checked_operators import record


def check_linear(
    proto: onnx.ModelProto, x: Array, constants: Mapping[str, Any] | None = None
) -> Model:
    """<seed, f(x) - f(0)> = <gradient, x> for several x; `constants` are fed too.

    Returns the augmented model.
    """
    fixed = dict(constants or {})
    augmented = gradient(load(proto), ["x"], "y")
    emitted = augmented.proto()
    assert_valid(emitted)
    y, y_at_zero = (run(proto, {"x": at, **fixed}, ["y"])[0] for at in (x, np.zeros_like(x)))
    seed = numbers(*y.shape, seed=1)
    g = run(emitted, {"x": x, **fixed, SEED: seed}, ["gradient/x"])[0]
    assert g.shape == x.shape
    for at in (x, numbers(*x.shape, seed=2), numbers(*x.shape, seed=3)):
        y = run(proto, {"x": at, **fixed}, ["y"])[0]
        by_rule, exact = np.vdot(g, at), np.vdot(seed, y - y_at_zero)
        assert abs(by_rule - exact) <= TOLERANCE * np.linalg.norm(g) * np.linalg.norm(at)
    record(proto, ["x"], "y")
    return augmented
