"""Gather, GatherElements, TopK and Compress: scalar, negative, repeated, permuted and computed indices."""

from typing import Any

import numpy as np
import pytest
from onnx import helper, parser

from onnxcam.arrays import Array
from tests.autodiff.support.check import check_model, check_vjp, numbers, one_node_model
from tests.autodiff.support.linear import check_linear

INDICES = {
    "scalar": np.array(2),
    "negative scalar": np.array(-1),
    "one": np.array([1]),
    "two": np.array([3, 0]),
    "negative": np.array([-1, 0, -3]),
    "same cell twice": np.array([3, -1]),
    "permutation": np.array([2, 0, 3, 1]),
    "repeated": np.array([1, 1, 0, -3, 1]),
    "table": np.array([[0, 1], [2, 3]]),
    "table of repeated": np.array([[0, 3, 0], [-1, 3, 2]]),
}


@pytest.mark.parametrize("opset", [9, 11, 13, 17])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("indices", INDICES)
def test_gather_matches_differences(indices: str, axis: int, opset: int) -> None:
    if opset < 11 and (np.min(INDICES[indices]) < 0 or axis < 0):
        indices, axis = "two", axis % 3  # neither is negative before opset 11
    check_vjp("Gather", numbers(4, 5, 4), INDICES[indices], axis=axis, opset=opset)


@pytest.mark.parametrize("dynamic", [(0,), (1, 2), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("indices", INDICES)
def test_gather_of_unknown_sizes_matches_differences(
    indices: str, axis: int, dynamic: tuple[int, ...]
) -> None:
    check_vjp("Gather", numbers(4, 5, 4), INDICES[indices], axis=axis, dynamic=dynamic)


@pytest.mark.parametrize("axis", [0, 1])
def test_gather_by_computed_indices_matches_differences(axis: int) -> None:
    model = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 5] x, float[3] z) => (float[a, b] y) {{
        i = Cast<to = 7>(z)
        y = Gather<axis = {axis}>(x, i)
    }}""")
    feed: dict[str, Array] = {"x": numbers(4, 5), "z": np.array([1.4, 1.2, -2.7], np.float32)}
    check_model(model, feed, ["x"], "y")


def test_distinct_indices_are_gathered_by_their_inverse() -> None:
    """A channel shuffle is one Gather in each direction."""
    model = check_vjp("Gather", numbers(2, 4, 3), INDICES["permutation"], axis=1)
    assert [node.op for node in model.graph.nodes] == ["Gather", "Gather", "Identity"]


DYNAMIC = pytest.mark.parametrize("dynamic", [(), (0,), (1, 2), (0, 1, 2)], ids=str)


@DYNAMIC
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("opset", [11, 17])
def test_gather_elements_matches_differences(
    opset: int, axis: int, dynamic: tuple[int, ...]
) -> None:
    sizes = [3, 4, 3]
    sizes[axis] = 5
    indices = np.random.default_rng(axis + 1).integers(-3, 3, sizes)
    attributes: dict[str, Any] = {"axis": axis, "opset": opset}
    check_vjp("GatherElements", numbers(3, 4, 3), indices, dynamic=dynamic, **attributes)


def test_gather_elements_along_the_last_axis_matches_the_runtime() -> None:
    node = helper.make_node("GatherElements", ["x", "i"], ["y"], axis=-1)
    indices = np.random.default_rng(0).integers(-3, 3, (3, 4, 5))
    check_linear(
        one_node_model(node, {"x": numbers(3, 4, 3)}, {"i": indices}, 17), numbers(3, 4, 3)
    )


@DYNAMIC
@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_top_k_matches_differences(axis: int, largest: int, dynamic: tuple[int, ...]) -> None:
    attributes: dict[str, Any] = {"axis": axis, "largest": largest, "outputs": 2}
    check_vjp("TopK", numbers(3, 4, 3), np.array([2]), dynamic=dynamic, **attributes)


def test_top_k_with_attribute_k_matches_differences() -> None:
    check_vjp("TopK", numbers(3, 4, 3), k=2, axis=1, outputs=2, opset=9)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_compress_matches_differences(axis: int | None) -> None:
    condition = np.array([False, True, True, False])
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    check_vjp("Compress", numbers(4, 4, 4), condition, **attributes)
    check_vjp("Compress", numbers(4, 4, 4), condition[:3], **attributes)
    check_vjp("Compress", numbers(4, 4, 4), condition, dynamic=(1, 2), **attributes)
