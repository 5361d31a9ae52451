"""Normalisation by fixed statistics, over channels, and by statistics of the values themselves."""

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper, parser

from onnxcam.errors import ModelError
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import (
    TOLERANCE,
    check_model,
    check_vjp,
    directions,
    numbers,
    one_node_model,
    run,
)
from tests.autodiff.support.differences import function, in_float64, slope


@pytest.mark.parametrize("opset", [7, 9, 14, 15, 17])
@pytest.mark.parametrize("size", [(4, 3), (2, 3, 5), (2, 3, 4, 5), (1, 3, 2, 3, 2)])
def test_batch_normalization(size: tuple[int, ...], opset: int) -> None:
    statistics = [numbers(3, seed=i, low=0.5, high=2.0) for i in range(4)]
    check_vjp("BatchNormalization", numbers(*size), *statistics, opset=opset, epsilon=1e-2)


@pytest.mark.parametrize("dynamic", [(0,), (2, 3), (0, 1, 2, 3)], ids=str)
def test_batch_normalization_of_unknown_sizes(dynamic: tuple[int, ...]) -> None:
    statistics = [numbers(3, seed=i, low=0.5, high=2.0) for i in range(4)]
    check_vjp("BatchNormalization", numbers(2, 3, 4, 5), *statistics, dynamic=dynamic)


@pytest.mark.parametrize(
    ("middle", "products"),
    [
        ("r = Identity(n)", 0),
        ("r = Relu(n)", 1),
        ("r = Tanh(n)", None),
        ("t = Relu(n) r = Sum(t, n)", None),
    ],
)
def test_the_factor_goes_into_the_kernel(middle: str, products: int | None) -> None:
    """As ONNX Runtime folds it into the forward one: a masked cotangent out of a Conv is not scaled again."""
    statistics = {name: numbers(3, seed=i, low=0.5, high=2.0) for i, name in enumerate("sbmv")}
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 3, 4, 5] x, float[3] s, float[3] b, float[3] m, float[3] v, float[2, 3, 2, 2] w)
      => (float[N, 2, 3, 4] y)
    {{ n = BatchNormalization(x, s, b, m, v) {middle} y = Conv(r, w) }}"""
    proto = parser.parse_model(text)
    fixed = {**statistics, "w": numbers(2, 3, 2, 2, seed=9)}
    proto.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in fixed.items())
    del proto.graph.input[1:]
    model = check_model(proto, {"x": numbers(2, 3, 4, 5)}, ["x"], "y")
    if products is not None:
        assert sum(each.op == "Mul" for each in model.graph.nodes) == products


def test_training_mode_is_refused() -> None:
    statistics = [numbers(3, seed=i, low=0.5, high=2.0) for i in range(4)]
    with pytest.raises(ModelError, match="inference mode"):
        check_vjp("BatchNormalization", numbers(2, 3, 4), *statistics, outputs=3, training_mode=1)


@pytest.mark.parametrize("dynamic", [(), (0, 2, 3)], ids=str)
@pytest.mark.parametrize("size", [1, 3, 5, 13])  # ONNX Runtime refuses even ones
def test_lrn(size: int, dynamic: tuple[int, ...]) -> None:
    x = numbers(2, 7, 3, 2, low=-3.0, high=3.0)
    check_vjp("LRN", x, size=size, alpha=0.5, beta=0.75, bias=1.5, dynamic=dynamic)


def test_lrn_by_its_defaults() -> None:
    check_vjp("LRN", numbers(2, 5, 4, 3, low=-9.0, high=9.0), size=3)


@pytest.mark.parametrize("size", [2, 4])
def test_an_even_window_of_channels_leans_to_one_side(size: int) -> None:
    """Its gradient is of the mirrored window. ONNX Runtime refuses it: the evaluator runs both."""
    x = numbers(2, 6, 2, 2, low=-3.0, high=3.0)
    node = helper.make_node("LRN", ["x"], ["y"], size=size, alpha=0.5, bias=1.5)
    proto = one_node_model(node, {"x": x}, {}, 17)
    f = function(in_float64(proto), {"x": x}, "x", "y")
    seed, here = numbers(*x.shape, seed=1).astype(np.float64), f(x.astype(np.float64))
    emitted = in_float64(gradient(load(proto), ["x"], "y").proto())
    g = np.asarray(emitted.run(["gradient/x"], {"x": x.astype(np.float64), SEED: seed})[0])
    for direction in directions(x.shape, np.random.default_rng(0)):
        exact = slope(f, x.astype(np.float64), here, direction, seed)
        assert abs(np.sum(g * direction) - exact) <= TOLERANCE * np.linalg.norm(g)


DYNAMIC = pytest.mark.parametrize("dynamic", [(), (0,), (0, 1, 2, 3)], ids=str)


def parameters(*shape: int) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    return [numbers(*shape, seed=1, low=0.5, high=2.0), numbers(*shape, seed=2)]


@DYNAMIC
@pytest.mark.parametrize("axis", [-1, 1, -3, 0])
def test_layer_normalization(axis: int, dynamic: tuple[int, ...]) -> None:
    x = numbers(2, 3, 4, 5)
    scale, bias = parameters(*x.shape[axis:])
    more: dict[str, Any] = {"axis": axis, "dynamic": dynamic, "epsilon": 1e-2}
    check_vjp("LayerNormalization", x, scale, bias, **more)
    check_vjp("LayerNormalization", x, scale, **more)
    check_vjp("LayerNormalization", x, scale, bias, wrt=(0, 1, 2), **more)


@pytest.mark.parametrize("of", [0, 1, 2])
@pytest.mark.parametrize("dynamic", [(), (0, 1, 2)], ids=str)
def test_every_output_of_layer_normalization(dynamic: tuple[int, ...], of: int) -> None:
    x, (scale, bias) = numbers(2, 3, 4), parameters(3, 4)
    op = "LayerNormalization"
    check_vjp(op, x, scale, bias, axis=1, outputs=3, of=of, dynamic=dynamic, epsilon=1e-2)


def test_a_parameter_of_layer_normalization_may_be_broadcast() -> None:
    x, scale = numbers(2, 3, 4), numbers(3, 1, low=0.5)
    check_vjp("LayerNormalization", x, scale, axis=1, wrt=(0, 1))


def test_statistics_that_the_node_can_give_are_not_worked_out_again() -> None:
    model = check_vjp("LayerNormalization", numbers(2, 5), *parameters(5))
    (node,) = [each for each in model.graph.nodes if each.op == "LayerNormalization"]
    assert len(node.outputs) == 3
    assert not {"Sqrt", "Reciprocal"} & {each.op for each in model.graph.nodes}


@DYNAMIC
@pytest.mark.parametrize("size", [(2, 3, 7), (2, 3, 4, 5), (1, 3, 2, 3, 2)])
@pytest.mark.parametrize("opset", [7, 17, 22])
def test_instance_normalization(
    opset: int, size: tuple[int, ...], dynamic: tuple[int, ...]
) -> None:
    more: dict[str, Any] = {
        "opset": opset,
        "dynamic": [each for each in dynamic if each < len(size)],
    }
    check_vjp("InstanceNormalization", numbers(*size), *parameters(3), epsilon=1e-2, **more)


def test_parameters_of_instance_normalization() -> None:
    check_vjp("InstanceNormalization", numbers(2, 3, 4), *parameters(3), wrt=(0, 1, 2))


@DYNAMIC
@pytest.mark.parametrize("size", [(2, 6, 3), (1, 6, 2, 3), (2, 6, 2, 3, 2), (3, 6, 2, 1)])
@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("opset", [21, 23])
def test_group_normalization(
    opset: int, groups: int, size: tuple[int, ...], dynamic: tuple[int, ...]
) -> None:
    sizes = [each for each in dynamic if each < len(size)]
    more: dict[str, Any] = {"opset": opset, "dynamic": sizes, "num_groups": groups}
    check_vjp("GroupNormalization", numbers(*size), *parameters(6), epsilon=1e-2, **more)


@pytest.mark.parametrize("dynamic", [(), (0, 2, 3)], ids=str)
def test_parameters_of_group_normalization(dynamic: tuple[int, ...]) -> None:
    x = numbers(2, 6, 3, 2)
    more: dict[str, Any] = {"opset": 21, "num_groups": 3}
    check_vjp("GroupNormalization", x, *parameters(6), wrt=(0, 1, 2), dynamic=dynamic, **more)


@DYNAMIC
@pytest.mark.parametrize("axis", [-1, 2, 0])
def test_rms_normalization(axis: int, dynamic: tuple[int, ...]) -> None:
    x = numbers(2, 3, 4, 5)
    scale = numbers(*x.shape[axis:], low=0.5, seed=1)
    more: dict[str, Any] = {"axis": axis, "dynamic": dynamic, "epsilon": 1e-2, "opset": 23}
    check_vjp("RMSNormalization", x, scale, **more)
    check_vjp("RMSNormalization", x, scale, wrt=(0, 1), **more)


@DYNAMIC
@pytest.mark.parametrize("axes", [[0, 2, 3], [1], [-1, 2]], ids=str)
@pytest.mark.parametrize("opset", [9, 13, 18])
def test_mean_variance_normalization(opset: int, axes: list[int], dynamic: tuple[int, ...]) -> None:
    x = numbers(2, 3, 4, 5)
    check_vjp("MeanVarianceNormalization", x, opset=opset, dynamic=dynamic, axes=axes)


@DYNAMIC
def test_mean_variance_normalization_by_its_defaults(dynamic: tuple[int, ...]) -> None:
    """Of opset 9: the newer one without axes is refused by onnx's own full check."""
    check_vjp("MeanVarianceNormalization", numbers(2, 3, 4, 5), opset=9, dynamic=dynamic)


@DYNAMIC
@pytest.mark.parametrize("p", [None, 1, 2])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("opset", [7, 22])
def test_lp_normalization(
    opset: int, axis: int | None, p: int | None, dynamic: tuple[int, ...]
) -> None:
    given = {"axis": axis, "p": p}
    more: dict[str, Any] = {name: each for name, each in given.items() if each is not None}
    check_vjp("LpNormalization", numbers(2, 3, 4, 5), opset=opset, dynamic=dynamic, **more)


@pytest.mark.parametrize("p", [1, 2])
def test_a_vector_of_zeros_has_no_direction(p: int) -> None:
    x = np.array([[0, 0, 0], [1, 2, 2]], np.float32)
    node = helper.make_node("LpNormalization", ["x"], ["y"], p=p)
    model = gradient(load(one_node_model(node, {"x": x}, {}, 17)), ["x"], "y")
    (found,) = run(model.proto(), {"x": x, SEED: np.ones_like(x)}, ["gradient/x"])
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[0], 0)
