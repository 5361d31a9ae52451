"""DeepLIFT and relevances go through the parts of recurrent operators, so that their sums are the scores."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from onnxcam.rewrite.per_image import ABSORBED
from tests.autodiff.support.bent import gap
from tests.autodiff.support.check import numbers, run

STEPS, BATCH, WIDTH, HIDDEN = 4, 2, 3, 5
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
X = numbers(BATCH, WIDTH, 1, STEPS, seed=1)
EXACT = 1e-4  # of the score


def recurrent(operator: str, direction: str = "bidirectional") -> onnx.ModelProto:
    """Columns of images (N, 3, 1, 4) are the steps; a head reads the states after all of them."""
    directions, rows = 2 if direction == "bidirectional" else 1, GATES[operator] * HIDDEN
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]>
        net (float[N, {WIDTH}, 1, {STEPS}] x) => (float[N, 2] y) {{
            m = Squeeze(x, two) s = Transpose<perm = [2, 0, 1]>(m)
            h = {operator}<hidden_size = {HIDDEN}, direction = "{direction}">(s, w, r, b)
            t = Transpose<perm = [2, 0, 1, 3]>(h) f = Flatten(t) y = MatMul(f, v)
        }}"""
    )
    arrays: dict[str, Any] = {
        "w": numbers(directions, rows, WIDTH, seed=2),
        "r": numbers(directions, rows, HIDDEN, seed=3),
        "b": numbers(directions, 2 * rows, seed=4),
        "v": numbers(STEPS * directions * HIDDEN, 2, seed=5),
        "two": np.array([2]),
    }
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    return proto


@pytest.mark.parametrize("operator", GATES)
def test_multipliers_of_recurrent_operators_add_up(operator: str) -> None:
    assert gap(recurrent(operator), X, numbers(*X.shape, seed=9)) <= EXACT


@pytest.mark.parametrize("operator", GATES)
def test_relevances_of_recurrent_operators_add_up(operator: str) -> None:
    proto = recurrent(operator)
    augmented = gradient(load(proto), ["x"], "y", "lrp").proto()
    (y,) = run(proto, {"x": X}, ["y"])
    seed = np.random.default_rng(1).normal(size=y.shape).astype(np.float32)
    names = ["gradient/x", ABSORBED]
    r, absorbed = run(augmented, {"x": X, SEED: seed}, names)
    scores = np.sum(seed * y, axis=1)
    assert np.abs(r).max() > 0
    size = np.abs(r).sum(axis=(1, 2, 3)) + np.abs(scores)
    assert np.max(np.abs(r.sum(axis=(1, 2, 3)) + absorbed - scores) / size) <= 1e-3
