"""Operands whose shapes do not fit are errors of the model that name the node."""

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcam.errors import ModelError, NodeError
from onnxcam.graph.node_flaws import describe_flaw
from onnxcam.graph.shape_conflicts import describe_conflicts
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import gradient

FLOAT = np.dtype(np.float32)
Shapes = list[tuple[Any, ...]]
WRONG: list[tuple[str, Shapes, dict[str, Any], str]] = [
    ("Gemm", [(2, 1, 16), (16, 5)], {}, "expected 2 axes each"),
    ("Gemm", [(2, 16), (16,)], {}, "expected 2 axes each"),
    ("Gemm", [(2, 16), (15, 5)], {}, "do not fit"),
    ("Gemm", [(2, 16), (16, 5)], {"transB": 1}, "do not fit"),
    ("Gemm", [(16, 2), (16, 5)], {}, "do not fit"),
    ("Gemm", [("N", 12), (12, 5), ("N", 12, 1, 1)], {}, "adds ('N', 12, 1, 1)"),
    ("Gemm", [("N", 12), (12, 5), (12,)], {}, "adds (12,)"),
    ("Gemm", [(3, 12), (12, 5), (2, 5)], {}, "adds (2, 5)"),
    ("MatMul", [(1, 4, 8, 8), (96, 5)], {}, "do not fit"),
    ("MatMul", [(4, 8), (3, 9, 5)], {}, "do not fit"),
    ("MatMul", [(4, 8), ()], {}, "at least 1 axis each"),
    ("MatMul", [(8,), (9,)], {}, "do not fit"),
    ("Conv", [(1, 3, 8, 8), (4,)], {}, "the same number of axes"),
    ("Conv", [(1, 3, 8, 8), (4, 3, 3)], {}, "the same number of axes"),
    ("Conv", [(1, 3), (4, 3)], {}, "at least 3"),
    ("Conv", [("N", 3, "H", "W"), (4, 2, 3, 3)], {}, "channels do not fit"),
    ("Conv", [(1, 4, 8, 8), (4, 4, 3, 3)], {"group": 2}, "2 groups"),
    ("Conv", [(1, 3, 8, 8), (4, 3, 3, 3), (5,)], {}, "adds a bias (5,) to 4"),
    ("Conv", [(1, 3, 8, 8), (4, 3, 3, 3), (4, 1)], {}, "adds a bias (4, 1)"),
    ("ConvTranspose", [(1, 3, 8, 8), (4, 3, 3, 3)], {}, "channels do not fit"),
    ("ConvTranspose", [(1, 4, 8, 8), (4, 3, 3, 3), (3,)], {"group": 2}, "to 6 channels"),
    ("BatchNormalization", [(1, 3, 8), (3,), (3,), (3,), (4,)], {}, "for the channels of"),
    ("BatchNormalization", [(1, 3, 8), (3, 1), (3,), (3,), (3,)], {}, "has (3, 1) numbers"),
    ("InstanceNormalization", [(1, 3, 8), (3,), (1,)], {}, "has (1,) numbers"),
    ("DequantizeLinear", [(8, 3, 3, 3), (8,)], {"axis": 3}, "has (8,) scales along axis 3"),
    ("DequantizeLinear", [(8, 3, 3, 3), (8,)], {}, "along axis 1"),
    ("QuantizeLinear", [(1, 3, 8, 8), (1, 3, 1, 1)], {}, "has (1, 3, 1, 1) scales"),
    ("DepthToSpace", [(1, 8, 2, 3)], {"blocksize": 64, "mode": "CRD"}, "the 8 of axis 1 by 4096"),
    ("DepthToSpace", [("N", 6, "H", "W")], {"blocksize": 2}, "the 6 of axis 1 by 4"),
    ("SpaceToDepth", [(1, 3, 8, 9)], {"blocksize": 2}, "the 9 of axis 3 by 2"),
]
RIGHT: list[tuple[str, Shapes, dict[str, Any]]] = [
    ("Gemm", [(2, 16), (16, 5), ()], {}),
    ("Gemm", [(2, 16), (16, 5), (2, 1)], {}),
    ("Gemm", [("N", 16), (5, 16), (1, 5)], {"transB": 1}),
    ("Gemm", [(16, "N"), (16, 5), ("N", 5)], {"transA": 1}),
    ("Gemm", [(2, "C"), (16, 5)], {}),
    ("MatMul", [(7, 2, 16), (16, 5)], {}),
    ("MatMul", [(16,), (3, 16, 5)], {}),
    ("MatMul", [(4, 16), (16,)], {}),
    ("Conv", [("N", 4, "H", "W"), (6, 2, 3, 3), (6,)], {"group": 2}),
    ("Conv", [("N", "C", 9), (6, 2, 3)], {}),
    ("ConvTranspose", [(1, 4, 8, 8), (4, 3, 3, 3), (6,)], {"group": 2}),
    ("BatchNormalization", [(5, 3), (3,), (3,), (3,), (3,)], {}),
    ("DequantizeLinear", [(8, 3, 3, 3), (8,)], {"axis": 0}),
    ("DequantizeLinear", [(8, 3, 3, 3), (8,)], {"axis": -4}),
    ("DequantizeLinear", [(8, 3, 3, 3), (1,)], {"axis": 9}),
    ("DequantizeLinear", [(8, 6), (8, 2)], {"axis": 1, "block_size": 3}),
    ("QuantizeLinear", [(1, 3, 8, 8), ()], {}),
    ("DepthToSpace", [(1, 8, 2, 3)], {"blocksize": 2}),
    ("DepthToSpace", [(1, "C", 2, 3)], {"blocksize": 3}),
    ("SpaceToDepth", [(1, 3, 8, 6)], {"blocksize": 2}),
]


def node_of(operator: str, shapes: Shapes, attributes: dict[str, Any]) -> gs.Node:
    tensors = [gs.Variable(f"t{slot}", FLOAT, list(shape)) for slot, shape in enumerate(shapes)]
    return gs.Node(operator, "the node", attributes, tensors, [gs.Variable("y")])


@pytest.mark.parametrize(("operator", "shapes", "attributes", "message"), WRONG)
def test_misfit_of_operands_is_described(
    operator: str, shapes: Shapes, attributes: dict[str, Any], message: str
) -> None:
    node = node_of(operator, shapes, attributes)
    assert message in (describe_flaw(node) or "")
    node.domain = "custom"
    assert not list(describe_conflicts(node))


@pytest.mark.parametrize(("operator", "shapes", "attributes"), RIGHT)
def test_fitting_operands_have_no_misfit(
    operator: str, shapes: Shapes, attributes: dict[str, Any]
) -> None:
    assert not list(describe_conflicts(node_of(operator, shapes, attributes)))


def test_operand_of_unknown_shape_has_no_misfit() -> None:
    for operator in ("Gemm", "MatMul", "Conv", "BatchNormalization", "DequantizeLinear"):
        node = node_of(operator, [(1, 2), (3, 4)], {})
        node.inputs[1].shape = None
        assert not list(describe_conflicts(node))


def model_of(nodes: list[onnx.NodeProto], constants: dict[str, Any]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("bias", [(1, 3, 1, 1), (2, 1, 3), (1, 1, 1)])
def test_gradient_names_product_with_bias_of_many_axes(bias: tuple[int, ...]) -> None:
    """ONNX Runtime opens such a model."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("Add", ["m", "zero"], ["b"]),
        helper.make_node("Gemm", ["m", "w", "b"], ["y"], "the product"),
    ]
    constants = {"zero": np.zeros(bias, np.float32), "w": np.ones((3, 4), np.float32)}
    with pytest.raises(NodeError, match=r"Gemm \(the product\)"):
        gradient(load(model_of(nodes, constants)), ["m"], "y")


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_gradient_names_weights_scaled_along_wrong_axis(axis: int) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], "the weights", axis=axis),
        helper.make_node("Conv", ["x", "w"], ["y"]),
    ]
    constants = {"q": np.ones((5, 3, 2, 2), np.int8), "s": np.ones(5, np.float32)}
    with pytest.raises(ModelError, match=r"\(the weights\): has \(5,\) scales along"):
        gradient(load(model_of(nodes, constants)), ["x"], "y")
