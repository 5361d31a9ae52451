"""The values of a model on a second image, its reference, for rules that compare the two.

The nodes that depend on the image are written a second time, and read the reference in its place. Weights are
shared, and so is everything else that does not depend on the image.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.autodiff.rule_table import Reference
from onnxcam.errors import ModelError
from onnxcam.graph.node_errors import name_of
from onnxcam.graph.operators import operator_key, traits_of
from onnxcam.graph.reachability import captured_tensors
from onnxcam.graph.tracing import Builder, Value
from onnxcam.specs import REFERENCE


def write_reference(build: Builder, image: str, of: str) -> Reference:
    """Add the graph input REFERENCE, and the nodes that compute from it what `of` depends on. Returns the
    function from a tensor to its value on the reference; a tensor that does not depend on the image is its own.

    The input has the dtype and shape of the image, and a batch of its own: one reference for all images, or one
    for each of them.
    """
    x = build.value(image)
    batch = 1 if x.shape[0] == 1 else f"{REFERENCE}/batch"
    baseline = build.input(REFERENCE, x.dtype, (batch, *x.shape[1:]))
    baselines = build.op("Expand", baseline, build.shape_of(x), shape=x.shape)
    copies = {image: baselines.tensor}
    for node in _ancestors(build.graph, of):
        if _depends_on_values(node, copies):
            copies.update(_copy(build, node, copies))
    return lambda value: Value(build, copies.get(value.name, value.tensor))


def _ancestors(graph: gs.Graph, of: str) -> list[gs.Node]:
    """The nodes that a tensor depends on, in order."""
    needed, nodes = {of}, []
    for node in reversed(graph.nodes):
        if any(tensor.name in needed for tensor in node.outputs):
            needed.update(tensor.name for tensor in (*node.inputs, *captured_tensors(node)))
            nodes.append(node)
    return nodes[::-1]


def _depends_on_values(node: gs.Node, copies: dict[str, gs.Tensor]) -> bool:
    """Whether a node reads numbers, not only sizes, that depend on the image."""
    if any(tensor.name in copies for tensor in captured_tensors(node)):
        raise ModelError(
            f"{operator_key(node.op, node.domain)} ({name_of(node)}) selects or repeats nodes at run time, so "
            "that the model's values on a reference cannot be written; fix the sizes of the input, or export "
            "one branch"
        )
    return not traits_of(node).reads_shape and any(tensor.name in copies for tensor in node.inputs)


def _copy(build: Builder, node: gs.Node, copies: dict[str, gs.Tensor]) -> dict[str, gs.Tensor]:
    """The outputs of a second node, which reads copies; by the names of the first node's outputs."""
    name = build.unique_name(node.op)
    outputs = [
        gs.Variable.empty()
        if tensor.is_empty()
        else gs.Variable(f"{name}:{slot}" if slot else name, tensor.dtype, tensor.shape)
        for slot, tensor in enumerate(node.outputs)
    ]
    inputs = [copies.get(tensor.name, tensor) for tensor in node.inputs]
    copy = gs.Node(node.op, name, dict(node.attrs), inputs, outputs, domain=node.domain)
    build.graph.nodes.append(copy)
    build.tensors |= {tensor.name: tensor for tensor in outputs if not tensor.is_empty()}
    names = [tensor.name for tensor in node.outputs]
    return {name: tensor for name, tensor in zip(names, outputs, strict=True) if name}
