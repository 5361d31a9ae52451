"""Models that score every pixel, box, or step: their scores at all positions, and the weighted sum of these
for each class. The weights are an input, so that what is explained is chosen when the model is run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from onnxcam.arrays import FLOAT32, Dim
from onnxcam.dense import (
    DENSE,
    DETECTION,
    IMAGE,
    NO_CHOICE,
    SEGMENTATION,
    SEQUENCE,
    WHERE,
    Dense,
    HeadChoice,
)
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.node_errors import reports_node
from onnxcam.graph.tracing import Builder, Value
from onnxcam.heads.boxes.find import find_boxes
from onnxcam.heads.dense_score import (
    class_scores,
    explained_heads,
    mark_as_added,
)
from onnxcam.heads.description import choose_task, describe_default
from onnxcam.heads.head import Head
from onnxcam.heads.output_activation import find_output_activation
from onnxcam.heads.tasks.activation import assumed_activation, assumed_activation_notice
from onnxcam.heads.tasks.no_class import NoClass, class_of_nothing
from onnxcam.heads.tasks.task import Task
from onnxcam.heads.vectors import ScoredModel, with_vector_scores
from onnxcam.image.labels import metadata_labels
from onnxcam.model.image_input import image_input
from onnxcam.model.model import Model
from onnxcam.specs import CLASS_SCORES, Score

FLAT: tuple[Dim, Dim] = ("rows", "columns")
PLACED = DETECTION, SEGMENTATION, SEQUENCE, IMAGE  # tasks with positions
CLASS_PROBABILITIES = "onnxcam/probabilities"  # the tensor (N, classes) of probabilities at WHERE


@reports_node
def with_dense_scores(
    model: Model, output: str | None = None, choice: HeadChoice = NO_CHOICE
) -> ScoredModel:
    """The model, its score (see `find_score`), and its scores at positions, if it has them: then the model gets
    the tensor DENSE, the input WHERE, and the score is the sum of DENSE times WHERE over the positions. A norm
    or values of several outputs are added as a score. `choice` is what the user says about the outputs.

    Raises what `find_score` raises if there is no score per position either.
    """
    model, heads = explained_heads(
        model,
        choice.scores or output,
        lambda heads: describe_default(heads, choose_task(model, heads, choice)),
        choice.class_axis,
    )
    task = choose_task(model, heads, choice)
    if heads[0].has_class_scores or task.name not in PLACED:
        return with_vector_scores(model, heads, task, choice.scores or output)
    dense, notices = _read(model, heads, task, choice)
    model = replace(model, notices=(*model.notices, *notices))
    copy, node_count = model.copy(), len(model.graph.nodes)
    build = Builder(copy.graph)
    parts = [_at_positions(build, head) for head in heads]
    joined = parts[0] if len(parts) == 1 else anp.concatenate(parts, axis=2)
    if choice.objectness:
        joined = _times_objectness(build, joined, dense, choice)
        dense = replace(dense, activation=None, assumed_activation=None, is_probability=True)
    scores = joined.astype(FLOAT32)
    where = build.input(WHERE, FLOAT32, (_batch_of(copy), dense.where_classes, scores.shape[2]))
    build.output(scores, DENSE)
    build.output(anp.sum(scores * where, axis=2), CLASS_SCORES)
    output_name = CLASS_SCORES
    if dense.activation:
        probabilities = _activate(scores, dense.activation)
        build.output(anp.sum(probabilities * where, axis=2), CLASS_PROBABILITIES)
        output_name = CLASS_PROBABILITIES
    added = copy.graph.nodes[node_count:]
    names = {DENSE, CLASS_SCORES, CLASS_PROBABILITIES}
    mark_as_added(node for node in added if node.outputs[0].name not in names)
    returned = {tensor.name for tensor in model.graph.outputs} | {CLASS_SCORES, output_name}
    copy.graph.outputs = [tensor for tensor in copy.graph.outputs if tensor.name in returned]
    score = Score(
        output_name, CLASS_SCORES, dense.activation, heads[0].class_count, dense.is_probability
    )
    return ScoredModel(copy, score, dense, dense.task)


def _times_objectness(build: Builder, scores: Value, dense: Dense, choice: HeadChoice) -> Value:
    """The probabilities of the classes times that of an object, which a tensor of its own holds.

    Raises ModelError if it does not have one number for each position.
    """
    tensor = build.value(choice.objectness)
    if not dense.is_probability:
        scores = _activate(scores, dense.activation or "Sigmoid")
    objectness = tensor if find_output_activation(tensor.tensor) else build.op("Sigmoid", tensor)
    target = build.constant(np.array([0, 1, -1], np.int64))
    shape = (scores.shape[0], 1, scores.shape[2])
    sizes = [size for size in tensor.shape[1:] if isinstance(size, int)]
    if len(sizes) == tensor.ndim - 1 and math.prod(sizes) != scores.shape[2]:
        raise ModelError(
            f"{choice.objectness!r} {list(tensor.shape)} does not have one number for each of the "
            f"{scores.shape[2]} positions"
        )
    return scores * build.op("Reshape", objectness, target, shape=shape)


def _batch_of(model: Model) -> Dim:
    """The batch axis of the image input."""
    name = image_input(model).name
    size: Dim = next(t.shape[0] for t in model.graph.inputs if t.name == name)
    return size


def _at_positions(build: Builder, head: Head) -> Value:
    """The scores (N, classes, positions) of one head."""
    scores = class_scores(build, head)
    first = [axis for axis in (head.batch_axis, head.class_axis) if axis is not None]
    order = [*first, *(axis for axis in range(scores.ndim) if axis not in first)]
    transposed = anp.transpose(scores, order) if order != sorted(order) else scores
    batch = 1 if head.batch_axis is None else scores.shape[head.batch_axis]
    sizes = [scores.shape[axis] for axis in order[len(first) :]]
    count: Dim = (
        math.prod(size for size in sizes if isinstance(size, int))
        if all(isinstance(size, int) for size in sizes)
        else build.unique_name("cells")
    )
    target = np.array([0 if head.batch_axis is not None else 1, head.class_count, -1], np.int64)
    shape = (batch, head.class_count, count)
    return build.op("Reshape", transposed, build.constant(target), shape=shape)


def _activate(scores: Value, activation: str) -> Value:
    """The probabilities of the classes at all positions."""
    if activation == "Sigmoid":
        return scores.build.op("Sigmoid", scores)
    powers = anp.exp(scores - anp.max(scores, axis=1, keepdims=True))
    return powers / anp.sum(powers, axis=1, keepdims=True)


def _read(
    model: Model, heads: Sequence[Head], task: Task, choice: HeadChoice
) -> tuple[Dense, list[str]]:
    """What the heads say about each position, and notices about what was assumed."""
    first, columns, activation = heads[0], heads[0].class_columns, heads[0].output_activation
    if columns is not None and (columns.logits or columns.are_logits):
        activation = "Sigmoid" if columns.objectness is None else None
    is_product = first.objectness is not None or (columns is not None and columns.is_probability)
    activation = None if is_product else activation
    nothing = class_of_nothing(first, task.name, metadata_labels(model.metadata))
    assumed = assumed_activation(task.name, first.class_count, nothing)
    is_raw = activation is None and not (first.inner_logits or is_product)
    boxes = None
    if task.name == DETECTION:
        boxes = find_boxes(model, heads, choice.boxes or None, choice.form or None)
    grid = _grid(heads) if task.name in (SEGMENTATION, IMAGE) else None
    dense = Dense(
        task=task.name,
        classes=first.class_count,
        activation={"LogSoftmax": "Softmax"}.get(str(activation), activation),
        is_probability=bool(first.inner_logits) or is_product,
        assumed_activation=assumed if is_raw else None,
        grid=grid,
        boxes=boxes,
        background=nothing.index if nothing and task.name != SEQUENCE else None,
        blank=nothing.index if nothing and task.name == SEQUENCE else None,
        where_classes=first.class_count if task.name == SEQUENCE else 1,
    )
    return dense, [
        *_task_notices(task),
        *_box_notices(dense),
        *_grid_notices(dense, first),
        *_nothing_notices(nothing, first),
        *_activation_notices(dense, first),
    ]


def _grid(heads: Sequence[Head]) -> tuple[Dim, Dim] | None:
    """The rows and columns of the pixels; names where they lie along one axis."""
    first = heads[0]
    sizes = [first.logits.shape[axis] for axis in first.other_axes]
    if len(heads) > 1 or len(sizes) > 2:
        return None
    return (sizes[0], sizes[1]) if len(sizes) == 2 else FLAT


def _grid_notices(dense: Dense, head: Head) -> Iterator[str]:
    if dense.grid == FLAT:
        yield (
            f"the pixels of {head.output.name} lie along one axis; rows and columns that fit the "
            "proportions of the image are assumed"
        )


def _task_notices(task: Task) -> Iterator[str]:
    if task.is_assumed:
        yield f"the task is taken to be {task.name}, because {task.reason}; --task changes that"


def _box_notices(dense: Dense) -> Iterator[str]:
    if dense.task == DETECTION and dense.boxes is None:
        yield (
            "the form of the boxes is unknown, so they are not drawn, and detections of one object are not "
            "joined; --head boxes=NAME,scores=NAME or the name of a form says where they are"
        )
    elif dense.boxes and dense.boxes.assumed:
        yield f"boxes: {dense.boxes.assumed}; --head names another form"


def _activation_notices(dense: Dense, head: Head) -> Iterator[str]:
    if dense.task == DETECTION and dense.assumed_activation:
        yield assumed_activation_notice(head.output.name, dense.assumed_activation)


def _nothing_notices(nothing: NoClass | None, head: Head) -> Iterator[str]:
    if nothing is not None and nothing.is_assumed:
        yield nothing.notice(head.output.name)
