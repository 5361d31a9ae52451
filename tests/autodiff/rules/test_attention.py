"""Attention, taken apart into matrix products and a Softmax."""

from typing import Any

import numpy as np
import pytest
from onnx import helper

from onnxcam.graph.model import load
from onnxcam.rewrite.augment import SEED, gradient
from tests.autodiff.check import check_vjp, numbers, one_node_model, run

DYNAMIC = pytest.mark.parametrize("dynamic", [(), (0,), (0, 2)], ids=str)


@DYNAMIC
@pytest.mark.parametrize("more", [{}, {"is_causal": 1}, {"scale": 0.3}, {"softcap": 2.0}], ids=str)
@pytest.mark.parametrize(
    "heads", [(2, 2), (4, 2)]
)  # the keys' are shared by groups of the queries'
def test_attention(heads: tuple[int, int], more: dict[str, Any], dynamic: tuple[int, ...]) -> None:
    q = numbers(2, heads[0], 3, 4)
    k, v = numbers(2, heads[1], 5, 4, seed=1), numbers(2, heads[1], 5, 6, seed=2)
    check_vjp("Attention", q, k, v, wrt=(0, 1, 2), opset=23, dynamic=dynamic, **more)


@pytest.mark.parametrize("dynamic", [(), (0, 1)], ids=str)
def test_heads_side_by_side(dynamic: tuple[int, ...]) -> None:
    q, k, v = (numbers(2, n, 12, seed=n) for n in (3, 5, 5))
    more: dict[str, Any] = {"q_num_heads": 3, "kv_num_heads": 3}
    check_vjp("Attention", q, k, v, wrt=(0, 1, 2), opset=23, dynamic=dynamic, **more)


def test_a_row_that_is_masked_altogether() -> None:
    """Its output and its gradient are 0, not NaN."""
    q, k, v = (numbers(1, 1, 3, 4, seed=n) for n in range(3))
    mask = np.array([[True, False, True], [False] * 3, [True] * 3])
    node = helper.make_node("Attention", ["q", "k", "v", "mask"], ["y"])
    proto = one_node_model(node, {"q": q, "k": k, "v": v}, {"mask": mask}, 23)
    made = gradient(load(proto), ["q", "k", "v"], "y").proto()
    names = ["gradient/q", "gradient/k", "gradient/v"]
    found = run(made, {"q": q, "k": k, "v": v, SEED: numbers(1, 1, 3, 4, seed=5)}, names)
    assert all(np.isfinite(each).all() for each in found)
    np.testing.assert_array_equal(found[0][0, 0, 1], 0)
    assert np.abs(found[0][0, 0, 2]).min() > 0
