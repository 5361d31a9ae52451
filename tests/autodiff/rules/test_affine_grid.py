"""The grid of a spatial transformer (Jaderberg et al. 2015, arXiv:1506.02025)."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from onnxcam.arrays import Array
from onnxcam.errors import MissingRuleError
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import augment
from tests.autodiff.support.check import check_vjp, numbers


@pytest.mark.parametrize("dynamic", [(), (0,)], ids=["fixed", "free"])
@pytest.mark.parametrize(
    ("size", "align"),
    [
        *[((2, 3, 4, 5), align) for align in (0, 1)],
        *[((1, 2, 2, 3), align) for align in (0, 1)],
        *[((2, 1, 2, 3, 4), align) for align in (0, 1)],
        *[((1, 2, 1, 3), 0), ((1, 1, 3, 1, 2), 0)],
    ],
    ids=str,
)
def test_affine_grid_matches_differences(
    size: tuple[int, ...], align: int, dynamic: tuple[int, ...]
) -> None:
    """One row and one image, too: there the definition in ONNX makes other shapes."""
    rank = len(size) - 2
    theta = numbers(size[0], rank, rank + 1)
    check_vjp("AffineGrid", theta, np.array(size), opset=20, dynamic=dynamic, align_corners=align)


def transformer(*, at_run_time: bool) -> onnx.ModelProto:
    """A net that transforms its features by a matrix computed from them."""
    sizes = {False: [], True: [helper.make_node("Shape", ["r"], ["size"])]}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "t", "b"], ["six"]),
        helper.make_node("Reshape", ["six", "matrices"], ["theta"]),
        *sizes[at_run_time],
        helper.make_node("AffineGrid", ["theta", "size"], ["grid"]),
        helper.make_node("GridSample", ["r", "grid"], ["moved"], padding_mode="border"),
        helper.make_node("Mul", ["moved", "moved"], ["squares"]),
        helper.make_node("GlobalAveragePool", ["squares"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "v"], ["y"]),
    ]
    weights: dict[str, Array] = {
        "w": numbers(4, 3, 3, 3, seed=1) / 3,
        "t": numbers(4, 6, seed=2) / 9,
        "b": np.array([0.9, 0.1, 0, 0.05, 0.8, 0.1], np.float32),
        "matrices": np.array([-1, 2, 3]),
        "v": numbers(4, 5, seed=3),
    }
    if not at_run_time:
        weights["size"] = np.array([2, 4, 6, 6])
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, ["N" if at_run_time else 2, 3, 8, 8])],
        [helper.make_tensor_value_info("y", 1, ["N" if at_run_time else 2, 5])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@pytest.mark.parametrize("at_run_time", [False, True])
def test_spatial_transformer_gradient_matches_differences_of_original_model(
    at_run_time: bool,
) -> None:
    proto = transformer(at_run_time=at_run_time)
    original = ort.InferenceSession(proto.SerializeToString())
    session = ort.InferenceSession(augment(load(proto), ["x"], "y").bytes())
    x, generator = numbers(2, 3, 8, 8), np.random.default_rng(4)
    seed = generator.standard_normal((2, 5)).astype(np.float32)
    (gradient,) = session.run(["gradient/x"], {"x": x, "seed": seed})
    for _ in range(3):
        step = generator.standard_normal(x.shape).astype(np.float32)
        up, down = (original.run(None, {"x": x + h * step})[0] for h in (1e-2, -1e-2))
        measured = float(np.sum((up - down).astype(np.float64) * seed) / 2e-2)
        assert float(np.sum(gradient * step)) == pytest.approx(measured, rel=0.02, abs=0.02)


def test_operator_defined_by_a_loop_has_no_rule() -> None:
    """LinearAttention, whose definition in ONNX is a loop over steps."""
    names = ["q", "k", "v"]
    node = helper.make_node(
        "LinearAttention",
        names,
        ["y", "state"],
        update_rule="linear",
        q_num_heads=2,
        kv_num_heads=2,
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(name, 1, [1, 4, 8]) for name in names],
        [helper.make_tensor_value_info("y", 1, [1, 4, 8])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 27)], ir_version=13)
    with pytest.raises(MissingRuleError, match=r"rule: LinearAttention \("):
        augment(load(proto), ["q"], "y")
