"""Bring a graph into the form that the rest of onnxcam reads, without changing any output.

Assumes nodes in topological order. Changes the graph in place, in one walk over its nodes:

- folds constants (exporters leave shape arithmetic, Constant nodes, and initializers shared through Identity),
- drops operators that do nothing, and branches that are never taken,
- decomposes the operators of ONNX Runtime's optimizer (`passes/ort`),
- infers the dtype and shape of every tensor.

Guarantees the same outputs under the same names.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnxcam.arrays import Array, Dim, Shape
from onnxcam.graph.attributes import argument
from onnxcam.graph.dims import broadcast_shapes, merge_shapes, name_unknown_dims
from onnxcam.graph.shape_arithmetic import Sizes
from onnxcam.graph.shape_inference import apply_declared_sizes, infer
from onnxcam.graph.symbolic_sizes import divide, divide_products, product
from onnxcam.passes.constant_folding import Folding, refuse_impossible_size
from onnxcam.passes.decomposition import Stage, decompose
from onnxcam.passes.ort import refuse_nchwc


def canonicalize(
    graph: gs.Graph,
    preserved: Collection[str] = (),
    stages: Collection[Stage] = frozenset({Stage.LOADING}),
) -> gs.Graph:
    """Canonicalize `graph` in place; returns it. Tensors whose names are in `preserved` stay. `stages`: which
    decompositions are applied. NeedsOpsetError if one of them needs a newer opset.
    """
    opsets = {imported.domain: imported.version for imported in graph.import_domains}
    opsets.setdefault("", opsets.get("ai.onnx", graph.opset))
    outputs = {output.name for output in graph.outputs} | set(preserved)
    folding = Folding.for_graph(graph, opsets)
    declared = {output.name: output.shape for output in graph.outputs}
    for tensor in graph.inputs:
        _set_shape(tensor, tensor.shape)
    pending, walked = list(graph.nodes)[::-1], []
    while pending:
        node = pending.pop()
        _drop_empty_lists(node)
        if (branch := _constant_branch(node)) is not None:
            pending.extend(_inline_branch(node, branch)[::-1])
            continue
        if (replacement := decompose(node, graph, outputs, stages)) is not None:
            pending.extend(replacement[::-1])
            continue
        refuse_nchwc(node)
        walked.append(node)
        _simplify(node, outputs, folding)
    # the others were replaced; graphsurgeon would format all their numbers for a log before it drops them
    graph.nodes = [node for node in walked if node.outputs]
    apply_declared_sizes(graph, declared)
    return graph.cleanup(remove_unused_node_outputs=False, remove_unused_graph_inputs=False)


def _simplify(node: gs.Node, outputs: set[str], folding: Folding) -> None:
    """Drop or fold a node in place, which leaves it without outputs, or else infer its outputs."""
    if _gathers_in_order(node):
        _turn_into_reshape(node)
    if _does_nothing(node, folding.opsets[""]) and node.outputs[0].name not in outputs:
        _bypass(node)
        return
    values = folding.values(node)
    is_output = not outputs.isdisjoint(tensor.name for tensor in node.outputs)
    if values and (node.op == "Constant" or not is_output):
        _replace_by_constants(node, values)
    else:
        _infer_outputs(node, folding.opsets, folding.sizes)


def _drop_empty_lists(node: gs.Node) -> None:
    """Drop empty pads, strides, and the like: ONNX Runtime ignores them, and graphsurgeon cannot write them."""
    if node.op != "Constant":
        for name in [name for name, value in node.attrs.items() if isinstance(value, list)]:
            if not node.attrs[name]:
                del node.attrs[name]


def _constant_branch(node: gs.Node) -> gs.Graph | None:
    """The branch that an If with a constant condition takes: exporters write one for a squeeze."""
    if node.op != "If" or node.domain or not isinstance(node.inputs[0], gs.Constant):
        return None
    return node.attrs["then_branch" if np.all(node.inputs[0].values) else "else_branch"]


def _inline_branch(node: gs.Node, branch: gs.Graph) -> list[gs.Node]:
    """The nodes of a branch, which write what its If wrote. Their tensors are renamed, as two branches may use
    the same names.
    """
    prefix, outputs = node.outputs[0].name, list(node.outputs)
    branch_ids = {id(inner) for inner in branch.nodes}
    local = {id(tensor): tensor for inner in branch.nodes for tensor in inner.outputs}
    for inner in branch.nodes:
        for tensor in inner.inputs:
            readers = {id(reader) for reader in tensor.outputs}
            if isinstance(tensor, gs.Constant) and readers <= branch_ids:
                local[id(tensor)] = tensor
    for tensor in local.values():
        if not tensor.is_empty():
            tensor.name = f"{prefix}/{tensor.name}"
    node.inputs.clear()
    node.outputs.clear()
    identities = [
        gs.Node("Identity", f"{output.name}/taken", {}, [result], [output])
        for result, output in zip(branch.outputs, outputs, strict=True)
    ]
    return [*branch.nodes, *identities]


def _does_nothing(node: gs.Node, opset: int) -> bool:
    if node.domain or node.op not in ("Identity", "Dropout"):
        return False
    training = argument(node, "training_mode", opset) if node.op == "Dropout" else None
    mask_is_read = node.op == "Dropout" and len(node.outputs) > 1 and node.outputs[1].outputs
    return not mask_is_read and (
        training is None or (isinstance(training, np.ndarray) and not training)
    )


def _gathers_in_order(node: gs.Node) -> bool:
    """Whether a Gather takes every element of a vector in order: torch writes one to reshape a mean."""
    if node.op != "Gather" or node.domain or not isinstance(node.inputs[1], gs.Constant):
        return False
    shape, indices = node.inputs[0].shape, node.inputs[1]
    is_vector = shape is not None and list(shape) == [math.prod(indices.shape)]
    return is_vector and bool(np.array_equal(indices.values.ravel(), np.arange(shape[0])))


def _turn_into_reshape(node: gs.Node) -> None:
    """Turn a Gather whose indices have the shape of its output into a Reshape, in place."""
    shape = np.array(node.inputs[1].shape, np.int64)
    node.op, node.attrs = "Reshape", {}
    node.inputs[1] = gs.Constant(f"{node.outputs[0].name}/shape", shape)


def _bypass(node: gs.Node) -> None:
    """Let the readers of a node's output read its input, in place."""
    source, output = node.inputs[0], node.outputs[0]
    for reader in list(output.outputs):
        for slot, tensor in enumerate(reader.inputs):
            if tensor is output:
                reader.inputs[slot] = source
    node.outputs.clear()
    node.inputs.clear()


def _replace_by_constants(node: gs.Node, values: list[Array]) -> None:
    for tensor, array in zip(list(node.outputs), values, strict=False):
        if not tensor.is_empty():
            tensor.to_constant(np.ascontiguousarray(array).reshape(array.shape))
    node.outputs.clear()
    node.inputs.clear()


def _infer_outputs(node: gs.Node, opsets: dict[str, int], sizes: dict[str, Sizes]) -> None:
    """Set the dtype and shape of the node's outputs, in place; what the model itself declares is kept."""
    for tensor, inferred in zip(node.outputs, infer(node, opsets), strict=True):
        if isinstance(tensor, gs.Constant) or tensor.is_empty():
            continue
        dtype, shape = inferred or (None, None)
        shape = merge_shapes(shape, _shape_from_sizes(node, sizes))
        tensor.dtype = tensor.dtype if dtype is None else dtype
        shape = merge_shapes(shape, tensor.shape)
        _set_shape(tensor, shape)
        refuse_impossible_size(node, tensor)


def _set_shape(tensor: gs.Tensor, shape: Shape | None) -> None:
    """Set a tensor's shape, with a name for every dimension that is not known."""
    tensor.shape = None if shape is None else name_unknown_dims(tensor.name, shape)


def _shape_from_sizes(node: gs.Node, sizes: dict[str, Sizes]) -> Shape | None:
    """The output shape of Reshape, Expand and ConstantOfShape, if the requested sizes are known as numbers or
    names.
    """
    if node.op not in ("Reshape", "Expand", "ConstantOfShape") or node.domain:
        return None
    target, shape = node.inputs[-1], node.inputs[0].shape
    requested: NDArray[Any] | None = sizes.get(target.name)
    if isinstance(target, gs.Constant) and node.op == "Reshape":
        is_empty = node.attrs.get("allowzero") and 0 in target.values
        requested = None if is_empty else target.values
    if requested is None or (node.op == "Expand" and shape is None):
        return None
    if node.op == "Expand":
        return broadcast_shapes(shape, requested.tolist())
    return _resolve_target(requested.tolist(), shape if node.op == "Reshape" else None)


def _resolve_target(target: list[Dim], shape: Sequence[Dim] | None) -> Shape:
    """The target of a Reshape with its 0 and -1 replaced by sizes, as far as the input's shape tells them."""
    if shape is None:
        return tuple(None if dim in (0, -1) else dim for dim in target)
    dims = [shape[i] if dim == 0 and i < len(shape) else dim for i, dim in enumerate(target)]
    return tuple(_missing_size(dims, shape) if dim == -1 else dim for dim in dims)


def _missing_size(dims: Sequence[Dim], shape: Sequence[Dim]) -> Dim:
    """The size for which a Reshape to `dims` asks with -1: what is left of the sizes of its input. None if
    names that do not cancel leave it open.
    """
    names, old_names = (
        [str(dim) for dim in sizes if not isinstance(dim, int)] for sizes in (dims, shape)
    )
    count, old_count = (
        math.prod(dim for dim in sizes if isinstance(dim, int)) for sizes in (dims, shape)
    )
    if None in shape or not count:
        return None
    if sorted(names) == sorted(old_names):
        return old_count // -count  # count has the factor -1
    total, known = product(shape), product(dim for dim in dims if dim != -1)
    if names:
        return divide_products(total, known)
    left = divide(total, known)
    return left if isinstance(left, str) else None
