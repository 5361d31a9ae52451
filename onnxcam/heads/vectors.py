"""Models whose output holds numbers of the complete image: scores of classes, values, or an embedding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import onnx_graphsurgeon as gs

from onnxcam.dense import Dense
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.tracing import Builder, Value
from onnxcam.heads.dense_score import ensure_class_scores, mark_as_added
from onnxcam.heads.head import Head
from onnxcam.heads.score import find_heads, to_score
from onnxcam.heads.tasks.task import EMBEDDING, REGRESSION, Task
from onnxcam.heads.tasks.vectors import vector_task
from onnxcam.heads.unit_length import before_normalization
from onnxcam.model.model import Model
from onnxcam.specs import CLASS_SCORES, Score

NORM = "norm of the embedding"
MAX_LISTED = 8  # values that a notice names


class ScoredModel(NamedTuple):
    """A model with the score that is explained.

    dense: its scores at positions; None if it has none.
    task: what it is for.
    names: what the scores are called if they are no classes.
    """

    model: Model
    score: Score
    dense: Dense | None = None
    task: str = ""
    names: tuple[str, ...] = ()


def with_vector_scores(
    model: Model, heads: Sequence[Head], task: Task, output: str | None
) -> ScoredModel:
    """The score of a model without positions: its classes; the norm of an embedding, since an embedding has no
    classes; or the values of all outputs of a regression.
    """
    first = heads[0]
    if task.name == EMBEDDING:
        return _with_norm(model, first, task)
    if task.name == REGRESSION:
        every = [first] if output else find_heads(model)  # in the order of the outputs
        values = [h for h in every if h.logits is first.logits or _is_value(h)]
        return _with_values(model, values, task)
    if first.has_class_scores:
        return ScoredModel(model, to_score(first), None, task.name)
    pooled, score = ensure_class_scores(model, output)
    return ScoredModel(replace(pooled, notices=model.notices), score, None, task.name)


def _with_norm(model: Model, head: Head, task: Task) -> ScoredModel:
    before = before_normalization(head.logits)
    tensor = head.logits if before is None else before
    where = "" if before is None else " before it is divided by it: behind that, its gradient is 0"
    notice = (
        f"{head.output.name} is taken as an embedding, because {task.reason}; by default its norm is explained"
        f"{where}; --target similar:REFERENCE explains its similarity to another image, and --task "
        "classification takes its numbers as classes"
    )
    copy, build, count = _copy(model, [notice])
    build.output(_norm(build.value(tensor.name)), CLASS_SCORES)
    mark_as_added(copy.graph.nodes[count:-1])
    return ScoredModel(copy, Score(CLASS_SCORES, CLASS_SCORES, None, 1), None, EMBEDDING, (NORM,))


def _norm(embedding: Value) -> Value:
    """(N, 1): the Euclidean norm."""
    rows = anp.reshape(embedding, (embedding.shape[0], -1)) if embedding.ndim > 2 else embedding
    return anp.sqrt(anp.sum(anp.square(rows), axis=1, keepdims=True))


def _with_values(model: Model, heads: Sequence[Head], task: Task) -> ScoredModel:
    names = tuple(name for head in heads for name in _names(head.output, _count(head)))
    listed = ", ".join(f"{number}: {name}" for number, name in enumerate(names[:MAX_LISTED]))
    notice = (
        f"the model is taken as a regression, because {task.reason}; by default value:0 is explained; --target "
        f"value:K explains another ({listed}{', …' if len(names) > MAX_LISTED else ''}), and --task "
        "classification takes them as classes"
    )
    if len(heads) == 1 and heads[0].has_class_scores:
        model = replace(model, notices=(*model.notices, notice))
        return ScoredModel(model, to_score(heads[0]), None, REGRESSION, names)
    copy, build, count = _copy(model, [notice])
    rows = [_rows(build, head) for head in heads]
    build.output(rows[0] if len(rows) == 1 else anp.concatenate(rows, axis=1), CLASS_SCORES)
    mark_as_added(copy.graph.nodes[count:-1])
    score = Score(CLASS_SCORES, CLASS_SCORES, None, len(names))
    return ScoredModel(copy, score, None, REGRESSION, names)


def _rows(build: Builder, head: Head) -> Value:
    """(N, values) of one output."""
    value = build.value(head.logits.name)
    return value if value.ndim == 2 else anp.reshape(value, (value.shape[0], _count(head)))


def _count(head: Head) -> int:
    """How many numbers of one image an output holds. ModelError if the graph leaves it free."""
    sizes = [size for axis, size in enumerate(head.logits.shape) if axis != head.batch_axis]
    numbers = [size for size in sizes if isinstance(size, int)]
    if len(numbers) < len(sizes):
        raise ModelError(
            f"{head.output.name!r} {list(head.output.shape)} has no fixed number of values; export the model "
            "with fixed sizes, or name another tensor with --output"
        )
    return math.prod(numbers)


def _names(output: gs.Tensor, count: int) -> Iterator[str]:
    """A name for each number of an output."""
    yield from [str(output.name)] if count == 1 else (f"{output.name}[{k}]" for k in range(count))


def _is_value(head: Head) -> bool:
    """Whether an output holds values of the image."""
    task = vector_task(head)
    is_plain = head.has_class_scores and not head.output_activation
    return is_plain and (task is None or task.name == REGRESSION)


def _copy(model: Model, notices: Sequence[str]) -> tuple[Model, Builder, int]:
    """A copy that is written into, its builder, and the number of its nodes so far."""
    copy = replace(model, notices=(*model.notices, *notices)).copy()
    return copy, Builder(copy.graph), len(copy.graph.nodes)
