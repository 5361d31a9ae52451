"""BatchNormalization with the statistics of training."""

import pytest
from onnx import numpy_helper, parser

from onnxcam.errors import ModelError
from tests.autodiff.support.check import (
    check_model,
    check_vjp,
    numbers,
)


@pytest.mark.parametrize("opset", [7, 9, 14, 15, 17])
@pytest.mark.parametrize("size", [(4, 3), (2, 3, 5), (2, 3, 4, 5), (1, 3, 2, 3, 2)])
def test_batch_normalization_matches_differences(size: tuple[int, ...], opset: int) -> None:
    statistics = [numbers(3, seed=i, low=0.5, high=2.0) for i in range(4)]
    check_vjp("BatchNormalization", numbers(*size), *statistics, opset=opset, epsilon=1e-2)


@pytest.mark.parametrize("dynamic", [(0,), (2, 3), (0, 1, 2, 3)], ids=str)
def test_batch_normalization_of_unknown_sizes_matches_differences(dynamic: tuple[int, ...]) -> None:
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
def test_batch_normalization_scales_the_kernel_of_a_convolution(
    middle: str, products: int | None
) -> None:
    """A cotangent that a Conv wrote is not scaled by itself, masked or not."""
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
        assert sum(node.op == "Mul" for node in model.graph.nodes) == products


def test_batch_normalization_in_training_mode_is_refused() -> None:
    statistics = [numbers(3, seed=i, low=0.5, high=2.0) for i in range(4)]
    with pytest.raises(ModelError, match="inference mode"):
        check_vjp("BatchNormalization", numbers(2, 3, 4), *statistics, outputs=3, training_mode=1)
