"""The formulas of papers about attention: token by token, and one entry of a matrix at a time, in float64."""

from __future__ import annotations

from itertools import product

import numpy as np

from onnxcam.arrays import Floats
from tests.support.transformer import Transformer, on_grid

STEP = 1e-6


def attention_rollout(net: Transformer, x: Floats, target: int = 0) -> Floats:
    """Abnar and Zuidema 2020, section 3: A = 0.5 W + 0.5 I, and eq. 1."""
    del target
    count = net.tokens
    rollout: Floats = np.eye(count)
    for matrix in net.run(x).attention:
        layer = np.zeros((count, count))
        for i, j in product(range(count), range(count)):
            layer[i, j] = 0.5 * sum(head[i, j] for head in matrix) / len(matrix) + 0.5 * (i == j)
        rollout = _product(layer, rollout)
    return on_grid(net.parts @ rollout, net)


def _product(left: Floats, right: Floats) -> Floats:
    count = len(left)
    result = np.zeros((count, count))
    for i, j in product(range(count), range(count)):
        result[i, j] = sum(left[i, k] * right[k, j] for k in range(count))
    return result
