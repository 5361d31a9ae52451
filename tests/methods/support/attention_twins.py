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


def transformer_attribution(net: Transformer, x: Floats, target: int) -> Floats:
    """Chefer et al., ICCV 2021: eq. 5, and eq. 6 from the identity on, which is left out of the map."""
    run, count = net.run(x), net.tokens
    relevance: Floats = np.eye(count)
    for block, matrix in enumerate(run.attention):
        gradient = _gradient(net, x, block, target, until=None)
        mean = np.zeros((count, count))
        for i, j in product(range(count), range(count)):
            products = [max(gradient[h, i, j] * matrix[h, i, j], 0.0) for h in range(net.heads)]
            mean[i, j] = sum(products) / net.heads
        relevance = relevance + _product(mean, relevance)
    return on_grid(net.parts @ (relevance - np.eye(count)), net)


def legrad(net: Transformer, x: Floats, target: int) -> Floats:
    """Bousselham et al. 2024, section 3: the head reads the output of each block in turn."""
    columns = np.zeros(net.tokens)
    for block in range(net.blocks):
        gradient = _gradient(net, x, block, target, until=block)
        for j in range(net.tokens):
            positive = [max(float(number), 0.0) for number in gradient[:, :, j].flat]
            columns[j] += sum(positive) / len(positive) / net.blocks
    return on_grid(columns, net)


def _gradient(net: Transformer, x: Floats, block: int, target: int, until: int | None) -> Floats:
    """(heads, T, T): the derivative of the target's score by one entry of the attention at a time."""
    gradient = np.zeros((net.heads, net.tokens, net.tokens))
    for index in np.ndindex(*gradient.shape):
        change = np.zeros(gradient.shape)
        change[index] = STEP
        above, below = (
            net.run(x, {block: sign * change}, until).logits[target] for sign in (1, -1)
        )
        gradient[index] = (above - below) / (2 * STEP)
    return gradient
