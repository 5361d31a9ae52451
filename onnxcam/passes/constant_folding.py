"""Compute the constants of a model once, when it is loaded.

ONNX Runtime, which will run the model, computes everything that does not depend on an input. (The reference
evaluator of onnx is wrong in places: it runs BatchNormalization below opset 14 in training mode.) Sizes of
which only some are known are computed by `graph/shape_arithmetic`. Large constants are left to the model.

Nothing here changes the graph: `canonicalize` asks for the values of one node after the other, in order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import numpy_helper
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from onnxcam.arrays import Array, Shape
from onnxcam.errors import NodeError, OnnxcamError
from onnxcam.graph.dims import is_static
from onnxcam.graph.node_errors import name_of, operator_of
from onnxcam.graph.operators import traits_of
from onnxcam.graph.opset import IR_VERSION
from onnxcam.graph.shape_arithmetic import Sizes, size_arithmetic
from onnxcam.graph.shape_inference import Dtype, infer

# operators whose output shape depends on values -> the bytes that they write per byte that they read, at most
SHRINKING = {"NonZero": 8, "Compress": 1, "Unique": 8}
MAX_NODE_BYTES = 1 << 20  # that folding one node may add to a model
MAX_FOLDED_BYTES = 1 << 26  # that folding may add to a model
# of constants that a model may compute itself, plus four times those it has
MAX_UNFOLDED_BYTES = 1 << 29
MAX_ELEMENTS = 1 << 33  # of a tensor: no machine has the memory for more


Inferred = list[tuple[Dtype, Shape | None] | None]


@dataclass
class Folding:
    """The state of folding while the nodes of a graph are visited in order.

    `sizes`: values of the tensors of shape arithmetic, by name. `independent`: names of tensors that depend on
    no input of the graph but are not folded. `folded_bytes`: of folded constants. `unfolded_bytes`: of those
    that the model computes itself.
    """

    opsets: dict[str, int]
    max_unfolded_bytes: int = MAX_UNFOLDED_BYTES
    sizes: dict[str, Sizes] = field(default_factory=dict)
    independent: set[str] = field(default_factory=set)
    folded_bytes: int = 0
    unfolded_bytes: int = 0

    @classmethod
    def for_graph(cls, graph: gs.Graph, opsets: dict[str, int]) -> Folding:
        """The state before the first node of a graph."""
        tensors = graph.tensors().values()
        stored = sum(_tensor_bytes(t.dtype, t.shape) for t in tensors if isinstance(t, gs.Constant))
        return cls(opsets, MAX_UNFOLDED_BYTES + 4 * stored)

    def values(self, node: gs.Node) -> list[Array] | None:
        """The values of the node's outputs; None if they depend on an input of the graph, or are large.
        NodeError for constants that no machine could hold, or that would crash the process.
        """
        refuse_division_by_zero(node)
        is_foldable = not node.domain and _is_foldable(node)
        if is_foldable:
            sizes = size_arithmetic(node, self.sizes, self.opsets[""])
            if sizes is not None:
                self.sizes[node.outputs[0].name] = sizes
                return _as_constant(sizes, infer(node, self.opsets)[0])
        if not all(self._is_independent(tensor) for tensor in node.inputs):
            return None
        self.independent |= {tensor.name for tensor in node.outputs if tensor.name}
        if not is_foldable:
            return None
        return values_of_constant_node(node) if node.op == "Constant" else self._evaluate(node)

    def _is_independent(self, tensor: gs.Tensor) -> bool:
        return (
            isinstance(tensor, gs.Constant) or tensor.is_empty() or tensor.name in self.independent
        )

    def _evaluate(self, node: gs.Node) -> list[Array] | None:
        inferred = [
            result
            for result, tensor in zip(infer(node, self.opsets), node.outputs, strict=True)
            if not tensor.is_empty()
        ]
        size = sum(_tensor_bytes(*result) for result in inferred if result is not None)
        if self._fits(node, inferred) and (values := evaluate_node(node, self.opsets)) is not None:
            self.folded_bytes += sum(array.nbytes for array in values)
            return values
        self.unfolded_bytes += size
        if self.unfolded_bytes > self.max_unfolded_bytes:
            raise _node_error(
                node,
                f"the constants that the model computes take more than {self.max_unfolded_bytes / 1e9:.1f} GB; "
                "export the model with constants folded",
            )
        return None

    def _fits(self, node: gs.Node, inferred: Inferred) -> bool:
        """Whether all inputs of a node are constants and its outputs are small."""
        inputs = [tensor for tensor in node.inputs if not tensor.is_empty()]
        if not all(isinstance(tensor, gs.Constant) for tensor in inputs):
            return False
        types = [tensor.dtype for tensor in inputs] + [result[0] for result in inferred if result]
        if any(_is_text(dtype) for dtype in types):
            return False  # text may grow while its shape stays
        read_bytes = sum(tensor.values.nbytes for tensor in inputs)
        shapes = [result[1] if result else None for result in inferred]
        written_bytes = sum(8 * _element_count(shape) for shape in shapes if is_static(shape))
        if not all(map(is_static, shapes)):
            written_bytes += read_bytes * SHRINKING.get(node.op, self.max_unfolded_bytes)
        return (
            written_bytes <= max(MAX_NODE_BYTES, read_bytes)
            and self.folded_bytes + written_bytes <= MAX_FOLDED_BYTES
        )


def _is_foldable(node: gs.Node) -> bool:
    """Neither random, nor a branch or loop, nor a weight, which would take four times its size dequantized."""
    traits = traits_of(node)
    return not (traits.random or traits.quantizes or traits.control_flow)


def refuse_division_by_zero(node: gs.Node) -> None:
    """NodeError for integers that are divided by a constant 0: ONNX Runtime crashes."""
    divisor = node.inputs[1] if node.op in ("Div", "Mod") and len(node.inputs) == 2 else None
    if node.domain or not isinstance(divisor, gs.Constant) or divisor.values.dtype.kind not in "iu":
        return
    dividend, lowest = node.inputs[0], np.iinfo(divisor.values.dtype).min
    overflows = isinstance(dividend, gs.Constant) and np.any(dividend.values == lowest)
    if np.any(divisor.values == 0) or (lowest and overflows and np.any(divisor.values == -1)):
        raise _node_error(
            node, "divides integers by 0, or the lowest integer by -1; correct the model"
        )


def refuse_impossible_size(node: gs.Node, tensor: gs.Tensor) -> None:
    """NodeError for a tensor that no machine has the memory for: not even its gradient rules would fit."""
    if _element_count(tensor.shape) > MAX_ELEMENTS:
        raise _node_error(
            node,
            f"writes {_element_count(tensor.shape):.1e} numbers ({tensor.shape}); correct its sizes",
        )


def _node_error(node: gs.Node, problem: str) -> NodeError:
    operator, name = operator_of(node), name_of(node)
    return NodeError(f"{operator} ({name}): {problem}", operator, name)


def values_of_constant_node(node: gs.Node) -> list[Array] | None:
    """What a Constant holds; None for text and for a sparse tensor. NodeError unless it is one value."""
    if len(node.attrs) != 1:
        raise _node_error(node, f"holds {len(node.attrs)} values, not one; correct the model")
    ((name, value),) = node.attrs.items()
    if name == "value" and not _is_text(value.dtype):
        return [np.asarray(value.values)]
    kinds: dict[str, Any] = {"value_float": np.float32, "value_floats": np.float32}
    kinds |= {"value_int": np.int64, "value_ints": np.int64}
    return [np.array(value, kinds[name])] if name in kinds else None


def evaluate_node(node: gs.Node, opsets: dict[str, int]) -> list[Array] | None:
    """The outputs of a node with constant inputs, as ONNX Runtime computes them; None if it does not."""
    from onnxcam.runtime.evaluate import evaluate  # not needed by a model without constants to fold

    constants = {tensor.name: tensor for tensor in node.inputs if not tensor.is_empty()}
    outputs = [tensor.name for tensor in node.outputs if not tensor.is_empty()]
    graph = onnx.helper.make_graph(
        [OnnxExporter.export_node(node)],
        "constant",
        [],
        [onnx.helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(tensor.values, name) for name, tensor in constants.items()],
    )
    imports = [onnx.helper.make_opsetid(name, version) for name, version in opsets.items()]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)
    try:
        values = dict(zip(outputs, evaluate(model.SerializeToString()), strict=True))
    except OnnxcamError:
        return None  # it is left to the model, which fails with its own message
    if not all(isinstance(array, np.ndarray) for array in values.values()):
        return None
    return [values.get(tensor.name, np.empty(0)) for tensor in node.outputs]


def _as_constant(sizes: Sizes, inferred: tuple[Dtype, Shape | None] | None) -> list[Array] | None:
    """The sizes as the numbers that the graph computes with: int64, floats, int32 after TensorFlow's Cast."""
    if inferred is None or not all(isinstance(size, (int, float)) for size in sizes.flat):
        return None
    dtype: Any = inferred[0]
    return [np.array(sizes, dtype).reshape(sizes.shape)]


def _is_text(dtype: Dtype | None) -> bool:
    return dtype is not None and not isinstance(dtype, int) and np.dtype(dtype).kind in "OSU"


def _element_count(shape: Shape | None) -> int:
    return math.prod(max(dim, 0) for dim in shape or () if isinstance(dim, int))


def _tensor_bytes(dtype: Dtype | None, shape: Shape | None) -> int:
    """Bytes of a tensor as far as its shape is known."""
    width = 2 if dtype is None or isinstance(dtype, int) else np.dtype(dtype).itemsize
    return width * _element_count(shape)
