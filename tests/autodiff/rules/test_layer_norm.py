"""LayerNormalization and RMSNormalization: every axis, every output, scale and bias."""

from typing import Any

import pytest

from tests.autodiff.support.check import check_vjp, numbers
from tests.autodiff.support.norms import UNKNOWN_SIZES, scale_and_bias


@UNKNOWN_SIZES
@pytest.mark.parametrize("axis", [-1, 1, -3, 0])
def test_layer_normalization_matches_differences(axis: int, dynamic: tuple[int, ...]) -> None:
    x = numbers(2, 3, 4, 5)
    scale, bias = scale_and_bias(*x.shape[axis:])
    attributes: dict[str, Any] = {"axis": axis, "dynamic": dynamic, "epsilon": 1e-2}
    check_vjp("LayerNormalization", x, scale, bias, **attributes)
    check_vjp("LayerNormalization", x, scale, **attributes)
    check_vjp("LayerNormalization", x, scale, bias, wrt=(0, 1, 2), **attributes)


@pytest.mark.parametrize("output", [0, 1, 2])
@pytest.mark.parametrize("dynamic", [(), (0, 1, 2)], ids=str)
def test_layer_normalization_output_matches_differences(
    dynamic: tuple[int, ...], output: int
) -> None:
    x, (scale, bias) = numbers(2, 3, 4), scale_and_bias(3, 4)
    op = "LayerNormalization"
    check_vjp(op, x, scale, bias, axis=1, outputs=3, output=output, dynamic=dynamic, epsilon=1e-2)


def test_layer_normalization_with_broadcast_scale_matches_differences() -> None:
    x, scale = numbers(2, 3, 4), numbers(3, 1, low=0.5)
    check_vjp("LayerNormalization", x, scale, axis=1, wrt=(0, 1))


def test_layer_normalization_reuses_the_statistics_of_the_node() -> None:
    model = check_vjp("LayerNormalization", numbers(2, 5), *scale_and_bias(5))
    (node,) = [node for node in model.graph.nodes if node.op == "LayerNormalization"]
    assert len(node.outputs) == 3
    assert not {"Sqrt", "Reciprocal"} & {node.op for node in model.graph.nodes}


@UNKNOWN_SIZES
@pytest.mark.parametrize("axis", [-1, 2, 0])
def test_rms_normalization_matches_differences(axis: int, dynamic: tuple[int, ...]) -> None:
    x = numbers(2, 3, 4, 5)
    scale = numbers(*x.shape[axis:], low=0.5, seed=1)
    attributes: dict[str, Any] = {"axis": axis, "dynamic": dynamic, "epsilon": 1e-2, "opset": 23}
    check_vjp("RMSNormalization", x, scale, **attributes)
    check_vjp("RMSNormalization", x, scale, wrt=(0, 1), **attributes)
