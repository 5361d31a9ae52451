"""The scores and boxes of all positions, before a model selects its final detections by TopK or non-maximum
suppression: the number of a selected class has no derivative, and the rank of a detection is no class.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import onnx_graphsurgeon as gs

from onnxcam.graph.constants import constant_values
from onnxcam.graph.dims import is_static
from onnxcam.graph.operators import only_reshapes, traits_of
from onnxcam.graph.reachability import is_float, producer
from onnxcam.heads.axis_slice import last_slice, writer
from onnxcam.heads.detection_columns import BOX
from onnxcam.heads.monotone import before_reshapes, monotone_input

SELECTORS = {"TopK", "NonMaxSuppression"}
GATHERS = {"Gather", "GatherElements", "GatherND", "Compress"}
MAX_STEPS = 64  # operators that are followed back from an output
MAX_PATHS = 64  # parts of an output that are followed back


class Step(NamedTuple):
    """A tensor and the node whose output numbers come from it; None for the output itself."""

    tensor: gs.Tensor
    node: gs.Node | None


def scores_before_selection(output: gs.Tensor) -> gs.Tensor | None:
    """The scores of all positions that the detections of an output were selected from by their scores; None for
    other outputs. If boxes, scores and classes are in one output, it is followed back from the scores.
    """
    for path in _paths(output):
        selection = _last_selection(path)
        if selection is None:
            continue
        joins = [
            i for i, step in enumerate(path) if i <= selection or _joins_class_index(step.node)
        ]
        parts = [i for i in joins if _is_join(path[i].node, path[i - 1].tensor)]
        if all(_is_one_number(path[i].tensor) for i in parts):
            tensor = _all_classes(path[max([selection, *parts]) :])
            if is_float(before_reshapes(tensor)):
                return tensor
    return None


def tensors_before_selection(output: gs.Tensor) -> Iterator[gs.Tensor]:
    """The numbers of all positions that an output, or a part of it, was selected from."""
    for path in _paths(output):
        selection = _last_selection(path)
        if selection is None:
            continue
        step, *later = path[selection:]
        is_part = bool(later) and _is_join(later[0].node, step.tensor)
        yield later[0].tensor if is_part else step.tensor


def _paths(output: gs.Tensor) -> Iterator[list[Step]]:
    """The ways back along the numbers of an output, one per part of it."""
    waiting, count = [[Step(output, None)]], 0
    while waiting and count < MAX_PATHS:
        path = waiting.pop()
        node = producer(path[-1].tensor)
        sources = [] if node is None or len(path) > MAX_STEPS else _sources(node, path)
        waiting.extend([*path, Step(source, node)] for source in reversed(sources))
        if not sources:
            count += 1
            yield path


def _sources(node: gs.Node, path: list[Step]) -> list[gs.Tensor]:
    """The inputs that a node moves or selects numbers of; empty if it computes others."""
    if not node.inputs:  # of random numbers
        return []
    tensor, (first, *rest) = path[-1].tensor, node.inputs
    traits = traits_of(node)
    if not is_float(tensor) or (not is_float(first) and node.op not in ("Where", "Mul")):
        return []
    if node.op == "Concat":
        return [t for t in node.inputs if t.inputs][: None if _is_join(node, tensor) else 1]
    if node.op == "TopK":
        return [first] if tensor is node.outputs[0] else []
    if node.op in GATHERS or only_reshapes(traits) or traits.moves in ("transpose", "slice", "pad"):
        return [first]
    if node.op == "ReduceMax" and _has_selection(path):
        return [first]
    if node.op == "Where":
        numbers = [operand for operand in rest if operand.inputs]
        return numbers if len(numbers) == 1 else []
    if traits.output_activation and traits.elementwise == "unary":
        return [first]
    step = monotone_input(node)
    if step is not None:
        return [step[0]] if step[1] > 0 else []
    return _scaled(node, tensor) if node.op in ("Mul", "Div") else []


def _scaled(node: gs.Node, tensor: gs.Tensor) -> list[gs.Tensor]:
    """What a product was computed from, if it is a box times the size of an image, or is masked."""
    first, second = node.inputs[:2]
    if tensor.shape and tensor.shape[-1] == BOX:
        return [t for t in (first, second) if t.inputs and _same_rank(t, tensor)][:1]
    masks = [t for t in (first, second) if not is_float(before_reshapes(t))]
    return [t for t in (first, second) if t not in masks] if masks else []


def _same_rank(first: gs.Tensor, second: gs.Tensor) -> bool:
    return len(first.shape or ()) == len(second.shape or ()) and first.shape[-2] == second.shape[-2]


def _has_selection(path: list[Step]) -> bool:
    return any(step.node is not None and _selects(step.node) for step in path)


def _selects(node: gs.Node) -> bool:
    """Whether a node picks numbers by their values, or by indices that are computed."""
    return node.op == "TopK" or (
        node.op in GATHERS
        and constant_values(node.inputs[1]) is None
        and bool(node.inputs[1].inputs)
    )


def _last_selection(path: list[Step]) -> int | None:
    """The step of a path before all selections; None unless one of these is by scores."""
    selections = [i for i, step in enumerate(path) if step.node is not None and _selects(step.node)]
    return selections[-1] if any(_is_by_score(path[i].node) for i in selections) else None


def _is_by_score(node: gs.Node | None) -> bool:
    """Whether the selection is a TopK, or its indices come from one or from non-maximum suppression."""
    if node is None or node.op == "TopK":
        return node is not None
    visited: set[str] = set()
    waiting = [node.inputs[1]]
    while waiting:
        tensor = waiting.pop()
        source = producer(tensor)
        if source is None or tensor.name in visited or is_float(tensor):
            continue
        if source.op in SELECTORS:
            return True
        visited.add(tensor.name)
        waiting.extend(source.inputs)
    return False


def _is_join(node: gs.Node | None, tensor: gs.Tensor) -> bool:
    """Whether a Concat wrote the tensor along its last axis: the numbers of each detection."""
    rank = len(tensor.shape or ())
    return node is not None and node.op == "Concat" and int(node.attrs["axis"]) % rank == rank - 1


def _joins_class_index(node: gs.Node | None) -> bool:
    return node is not None and any(
        tensor.inputs and not is_float(before_reshapes(tensor)) for tensor in node.inputs
    )


def _is_one_number(tensor: gs.Tensor) -> bool:
    return bool(tensor.shape) and tensor.shape[-1] == 1


def _all_classes(steps: list[Step]) -> gs.Tensor:
    """The first tensor of a path that has an axis of positions and one of classes, if there is one."""
    tensor = steps[0].tensor
    for step in steps[1:]:
        is_flat = len(tensor.shape or ()) <= 2
        is_best = step.node is not None and step.node.op == "ReduceMax"
        is_view = step.node is not None and only_reshapes(traits_of(step.node))
        if not is_best and not (is_flat and is_view):
            break
        tensor = step.tensor
    return _before_slice(tensor)


def _before_slice(tensor: gs.Tensor) -> gs.Tensor:
    """The scores before they were joined with boxes and separated from them again."""
    node = producer(tensor)
    if node is None or node.op not in ("Slice", "Split") or not is_static(tensor.shape[-1:]):
        return tensor
    numbers = writer(last_slice(tensor))
    return numbers.tensor if numbers.is_all else tensor
