"""Attention, decomposed into matrix products and a Softmax."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import check_model, check_vjp, numbers, one_node_model, run

DYNAMIC = pytest.mark.parametrize("dynamic", [(), (0,), (0, 2)], ids=str)


@DYNAMIC
@pytest.mark.parametrize(
    "attributes", [{}, {"is_causal": 1}, {"scale": 0.3}, {"softcap": 2.0}], ids=str
)
@pytest.mark.parametrize("heads", [(2, 2), (4, 2)])  # queries, keys
def test_attention_matches_differences(
    heads: tuple[int, int], attributes: dict[str, Any], dynamic: tuple[int, ...]
) -> None:
    q = numbers(2, heads[0], 3, 4)
    k, v = numbers(2, heads[1], 5, 4, seed=1), numbers(2, heads[1], 5, 6, seed=2)
    check_vjp("Attention", q, k, v, wrt=(0, 1, 2), opset=23, dynamic=dynamic, **attributes)


@pytest.mark.parametrize("dynamic", [(), (0, 1)], ids=str)
def test_attention_with_concatenated_heads_matches_differences(dynamic: tuple[int, ...]) -> None:
    q, k, v = (numbers(2, n, 12, seed=n) for n in (3, 5, 5))
    attributes: dict[str, Any] = {"q_num_heads": 3, "kv_num_heads": 3}
    check_vjp("Attention", q, k, v, wrt=(0, 1, 2), opset=23, dynamic=dynamic, **attributes)


def test_fully_masked_row_has_zero_gradient() -> None:
    """Its output and its gradient are 0, not NaN."""
    q, k, v = (numbers(1, 1, 3, 4, seed=n) for n in range(3))
    mask = np.array([[True, False, True], [False] * 3, [True] * 3])
    node = helper.make_node("Attention", ["q", "k", "v", "mask"], ["y"])
    proto = one_node_model(node, {"q": q, "k": k, "v": v}, {"mask": mask}, 23)
    emitted = gradient(load(proto), ["q", "k", "v"], "y").proto()
    names = ["gradient/q", "gradient/k", "gradient/v"]
    gradients = run(emitted, {"q": q, "k": k, "v": v, SEED: numbers(1, 1, 3, 4, seed=5)}, names)
    assert all(np.isfinite(array).all() for array in gradients)
    np.testing.assert_array_equal(gradients[0][0, 0, 1], 0)
    assert np.abs(gradients[0][0, 0, 2]).min() > 0


ZEROED = {  # how exporters set a fully masked row to 0; h are the weights with NaN there
    "IsNaN": "n = IsNaN(h) a = Where(n, zero, h)",
    "rows": """
        low = Equal(s, minus) f = Cast<to = 1>(low) least = ReduceMin<axes = [-1]>(f)
        n = Cast<to = 9>(least) a = Where(n, zero, h)""",
}
WITH_ROWS = """<ir_version: 9, opset_import: ["" : 17]>
net (float[2, 3, 4] x) => (float[2, 3, 4] y) {{
    k = Transpose<perm = [0, 2, 1]>(x)
    qk = MatMul(x, k)
    {masked}
    h = Softmax<axis = -1>(s)
    {zeroed}
    y = MatMul(a, x)
}}"""


@pytest.mark.parametrize(
    "masked", ["s = Where(mask, qk, minus)", "bias = Where(mask, zero, minus) s = Add(qk, bias)"]
)
@pytest.mark.parametrize("zeroed", ZEROED)
def test_exported_fully_masked_row_has_zero_gradient(zeroed: str, masked: str) -> None:
    """As in torch, whose safe softmax returns 0 there; gradients of the other rows match differences."""
    proto = onnx.parser.parse_model(WITH_ROWS.format(zeroed=ZEROED[zeroed], masked=masked))
    constants = {
        "mask": np.array([[True, False, True], [False] * 3, [True] * 3]),
        "minus": np.array(-np.inf, np.float32),
        "zero": np.array(0, np.float32),
    }
    for name, array in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    x, seed = numbers(2, 3, 4), numbers(2, 3, 4, seed=3)
    emitted = gradient(load(proto), ["x"], "y").proto()
    (computed,) = run(emitted, {"x": x, SEED: seed}, ["gradient/x"])
    assert np.isfinite(computed).all()
    generator = np.random.default_rng(0)
    for _ in range(4):
        step = generator.standard_normal(x.shape).astype(np.float32)
        up, down = (run(proto, {"x": x + h * step}, ["y"])[0] for h in (1e-2, -1e-2))
        measured = float(np.sum((up - down).astype(np.float64) * seed) / 2e-2)
        assert float(np.sum(computed * step)) == pytest.approx(measured, rel=1e-2, abs=1e-2)


def test_single_weights_set_to_zero_do_not_change_the_softmax_rule() -> None:
    """The row is not fully masked: its other weights depend on the values before."""
    zeroed, masked = "n = Less(h, least) a = Where(n, zero, h)", "s = Where(mask, qk, minus)"
    text = WITH_ROWS.format(zeroed=zeroed, masked=masked)
    proto = onnx.parser.parse_model(text)
    constants = {"mask": np.array(True), "minus": -1.0, "zero": 0.0, "least": 0.3}
    for name, value in constants.items():
        array = np.asarray(value, None if name == "mask" else np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    check_model(proto, {"x": numbers(2, 3, 4)}, ["x"], "y")
