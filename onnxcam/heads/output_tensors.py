"""The float tensors that an output is made from: inside a sequence or a map, before the choice of a class or
the selection of detections, and before rounding.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.graph.operators import only_reshapes, traits_of
from onnxcam.graph.reachability import producer
from onnxcam.heads.class_choice import scores_before_choice
from onnxcam.heads.selection import scores_before_selection


def unwrap_output(output: gs.Tensor) -> list[gs.Tensor]:
    """The tensors in an output that is a sequence, a map, or optional; the output itself if it is a tensor."""
    node = producer(output)
    if node is None or not traits_of(node).container:
        return [output]
    inputs = node.inputs if node.op == "SequenceConstruct" else node.inputs[:1]
    return [tensor for source in inputs for tensor in unwrap_output(source)]


def score_tensors(output: gs.Tensor) -> list[gs.Tensor]:
    """The tensors that may hold the scores of an output: those in it, or what they were chosen from."""
    return [
        scores_before_choice(tensor) or scores_before_selection(tensor) or tensor
        for tensor in unwrap_output(output)
    ]


def origin_notice(output: gs.Tensor, tensor: gs.Tensor) -> str:
    """Why a tensor is explained instead of the output that is made from it."""
    if unwrap_output(output) != [output]:
        kind = "is not a tensor"
    elif scores_before_choice(output) is None:
        kind = "holds what the model selected (TopK or non-maximum suppression)"
    else:
        kind = "only names the best class"
    return (
        f"{output.name} {kind}, so {tensor.name}, which it is made from, is explained; "
        "--output NAME chooses another tensor"
    )


def before_rounding(tensor: gs.Tensor) -> gs.Tensor:
    """The floats that quantized numbers were last rounded from; the tensor itself if it was not rounded."""
    current = tensor
    while (node := producer(current)) is not None and _rounds_or_reshapes(node):
        if not _have_same_sizes(node.inputs[0], tensor):
            break
        current = node.inputs[0]
        if node.op == "QuantizeLinear":
            tensor = current
    return tensor


def _rounds_or_reshapes(node: gs.Node) -> bool:
    traits = traits_of(node)
    return traits.quantizes or only_reshapes(traits)


def _have_same_sizes(first: gs.Tensor, second: gs.Tensor) -> bool:
    """Whether two tensors have the same axes longer than 1, in any order."""
    if first.shape is None or second.shape is None:
        return False
    sizes = [
        sorted(str(dim) for dim in tensor.shape if isinstance(dim, int) and dim != 1)
        for tensor in (first, second)
    ]
    return sizes[0] == sizes[1]
