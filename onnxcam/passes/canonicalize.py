"""Rewrites before differentiating that leave every output as it is.

One walk over the graph, in its order, folds what is constant (exporters leave shape arithmetic,
Constant nodes, and initializers shared through Identity), drops what does nothing, takes apart what
ONNX Runtime fused (`graph/fused`), and works out the dtype and shape of every tensor on the way.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnxcam.arrays import Array, Dim, Shape
from onnxcam.graph.attributes import argument
from onnxcam.graph.dims import broadcast_shapes, merge_shapes, name_unknown_dims
from onnxcam.graph.shape_arithmetic import Sizes
from onnxcam.graph.shape_inference import believe_outputs, infer
from onnxcam.passes.constant_folding import Folding, refuse_impossible_size
from onnxcam.passes.ort import decompose


def canonicalize(graph: gs.Graph, kept: Collection[str] = ()) -> gs.Graph:
    """Fold, drop and type `graph` in place; returns it. Tensors of the names `kept` stay."""
    opsets = {each.domain: each.version for each in graph.import_domains}
    opsets.setdefault("", opsets.get("ai.onnx", graph.opset))
    outputs = {each.name for each in graph.outputs} | set(kept)
    folding = Folding.of(graph, opsets)
    declared = {output.name: output.shape for output in graph.outputs}
    for tensor in graph.inputs:
        tensor.shape = (
            None if tensor.shape is None else name_unknown_dims(tensor.name, tensor.shape)
        )
    waiting, walked = list(graph.nodes)[::-1], []
    while waiting:
        node = waiting.pop()
        _drop_empty_lists(node)
        if (branch := _taken(node)) is not None:
            waiting.extend(_unwrapped(node, branch)[::-1])
            continue
        if (parts := decompose(node, graph, outputs)) is not None:
            waiting.extend(parts[::-1])
            continue
        walked.append(node)
        if _takes_all(node):
            _reshape_instead(node)
        if _does_nothing(node, opsets[""]) and node.outputs[0].name not in outputs:
            _bypass(node)
        elif (values := folding.values(node)) and not outputs & {
            each.name for each in node.outputs
        }:
            _replace(node, values)
        else:
            _type(node, opsets, folding.sizes)
    # the others were replaced; graphsurgeon would format all their numbers for a log before it drops them
    graph.nodes = [node for node in walked if node.outputs]
    believe_outputs(graph, declared)
    return graph.cleanup(remove_unused_node_outputs=False, remove_unused_graph_inputs=False)


def _drop_empty_lists(node: gs.Node) -> None:
    """Drop empty pads, strides, and the like: ONNX Runtime ignores them, and graphsurgeon cannot write them."""
    if node.op != "Constant":
        for name in [name for name, value in node.attrs.items() if isinstance(value, list)]:
            if not node.attrs[name]:
                del node.attrs[name]


def _taken(node: gs.Node) -> gs.Graph | None:
    """The branch of an If whose condition is known: exporters write one for a squeeze."""
    if node.op != "If" or node.domain or not isinstance(node.inputs[0], gs.Constant):
        return None
    return node.attrs["then_branch" if np.all(node.inputs[0].values) else "else_branch"]


def _unwrapped(node: gs.Node, branch: gs.Graph) -> list[gs.Node]:
    """The nodes of a branch, which write what its If wrote; their names may be those of another branch."""
    prefix, outputs = node.outputs[0].name, list(node.outputs)
    inside = {id(each) for each in branch.nodes}
    own = {id(tensor): tensor for inner in branch.nodes for tensor in inner.outputs}
    for inner in branch.nodes:
        for tensor in inner.inputs:
            if isinstance(tensor, gs.Constant) and {id(each) for each in tensor.outputs} <= inside:
                own[id(tensor)] = tensor
    for tensor in own.values():
        if not tensor.is_empty():
            tensor.name = f"{prefix}/{tensor.name}"
    node.inputs.clear()
    node.outputs.clear()
    ends = [
        gs.Node("Identity", f"{written.name}/taken", {}, [given], [written])
        for given, written in zip(branch.outputs, outputs, strict=True)
    ]
    return [*branch.nodes, *ends]


def _does_nothing(node: gs.Node, opset: int) -> bool:
    if node.domain or node.op not in ("Identity", "Dropout"):
        return False
    training = argument(node, "training_mode", opset) if node.op == "Dropout" else None
    mask = node.op == "Dropout" and len(node.outputs) > 1 and node.outputs[1].outputs
    return not mask and (training is None or (isinstance(training, np.ndarray) and not training))


def _takes_all(node: gs.Node) -> bool:
    """A Gather of every element of a row in turn: torch writes one to lay a mean out anew, batch and all."""
    if node.op != "Gather" or node.domain or not isinstance(node.inputs[1], gs.Constant):
        return False
    given, indices = node.inputs[0].shape, node.inputs[1]
    whole = given is not None and list(given) == [math.prod(indices.shape)]
    return whole and bool(np.array_equal(indices.values.ravel(), np.arange(given[0])))


def _reshape_instead(node: gs.Node) -> None:
    target = np.array(node.inputs[1].shape, np.int64)
    node.op, node.attrs = "Reshape", {}
    node.inputs[1] = gs.Constant(f"{node.outputs[0].name}/shape", target)


def _bypass(node: gs.Node) -> None:
    given, gone = node.inputs[0], node.outputs[0]
    for consumer in list(gone.outputs):
        for slot, each in enumerate(consumer.inputs):
            if each is gone:
                consumer.inputs[slot] = given
    node.outputs.clear()
    node.inputs.clear()


def _replace(node: gs.Node, values: list[Array]) -> None:
    for tensor, each in zip(list(node.outputs), values, strict=False):
        if not tensor.is_empty():
            tensor.to_constant(np.ascontiguousarray(each).reshape(each.shape))
    node.outputs.clear()
    node.inputs.clear()


def _type(node: gs.Node, opsets: dict[str, int], sizes: dict[str, Sizes]) -> None:
    """Give the node's outputs their dtype and shape, keeping what the model itself said of them."""
    for tensor, found in zip(node.outputs, infer(node, opsets), strict=True):
        if isinstance(tensor, gs.Constant) or tensor.is_empty():
            continue
        dtype, shape = found or (None, None)
        shape = merge_shapes(shape, _shape_by_sizes(node, sizes))
        tensor.dtype = tensor.dtype if dtype is None else dtype
        shape = merge_shapes(shape, tensor.shape)
        tensor.shape = None if shape is None else name_unknown_dims(tensor.name, shape)
        refuse_impossible_size(node, tensor)


def _shape_by_sizes(node: gs.Node, sizes: dict[str, Sizes]) -> Shape | None:
    """The shape that Reshape and its like leave, where the sizes asked for are known by name."""
    if node.op not in ("Reshape", "Expand", "ConstantOfShape") or node.domain:
        return None
    wanted: NDArray[np.object_] | None = sizes.get(node.inputs[-1].name)
    given = node.inputs[0].shape
    if wanted is None or (node.op == "Expand" and given is None):
        return None
    if node.op == "Expand":
        return broadcast_shapes(given, wanted.tolist())
    return _filled_in(wanted.tolist(), given if node.op == "Reshape" else None)


def _filled_in(wanted: list[Dim], given: Sequence[Dim] | None) -> Shape:
    """The target of a Reshape without its 0 and -1, as far as that follows from the shape it is given."""
    if given is None:
        return tuple(None if each in (0, -1) else each for each in wanted)
    kept = [given[i] if each == 0 and i < len(given) else each for i, each in enumerate(wanted)]
    names, had = ([str(d) for d in dims if not isinstance(d, int)] for dims in (kept, given))
    size, whole = (math.prod(d for d in dims if isinstance(d, int)) for dims in (kept, given))
    rest = whole // -size if size and None not in given and sorted(names) == sorted(had) else None
    return tuple(rest if each == -1 else each for each in kept)
