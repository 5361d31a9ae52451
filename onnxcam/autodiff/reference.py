"""The values of a model on a second image, its reference, for rules that compare the two.

The nodes that depend on the image are written a second time, and read the reference in its place. Weights are
shared, and so is everything else that does not depend on the image.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.autodiff.rule_table import Reference
from onnxcam.graph.copying import copy_nodes
from onnxcam.graph.reachability import captured_tensors
from onnxcam.graph.tracing import Builder, Value
from onnxcam.specs import REFERENCE

REFERENCE_SCORE = "onnxcam/reference_score"  # the output with the score on the reference


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
    copy_nodes(build, _ancestors(build.graph, of), copies)
    return lambda value: Value(build, copies.get(value.name, value.tensor))


def _ancestors(graph: gs.Graph, of: str) -> list[gs.Node]:
    """The nodes that a tensor depends on, in order."""
    needed, nodes = {of}, []
    for node in reversed(graph.nodes):
        if any(tensor.name in needed for tensor in node.outputs):
            needed.update(tensor.name for tensor in (*node.inputs, *captured_tensors(node)))
            nodes.append(node)
    return nodes[::-1]
