"""Choose which of several outputs is explained: the one with the strongest evidence in the graph."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from onnxcam.graph.reachability import captured_tensors
from onnxcam.heads.detection_columns import BOX
from onnxcam.heads.head import Head
from onnxcam.heads.unit_length import before_normalization

SCORE_NAMES = re.compile(r"logit|prob|score|class|cls|conf|pred|label|softmax", re.IGNORECASE)
OTHER_NAMES = re.compile(
    r"box|bbox|loc|coord|landm|kps|key_?point|embed|feat|mask|proto|offset|anchor|angle|regress",
    re.IGNORECASE,
)
REASONS = (  # the strongest first, in the order of `_evidence`
    "it has one score per label",
    "the other one is an intermediate result",
    "the other one looks like boxes or an embedding",
    "it has one score per class, not per pixel or box",
    "it ends in Softmax or Sigmoid",
    "its name suggests scores",
    "it comes first",
)
LARGER = "its map is larger"
DEEPER = "it uses more of the model"
MAX_LISTED = 6  # outputs that a notice names


@dataclass(frozen=True)
class OutputChoice:
    """The head that is explained, the reason for it, and the other heads."""

    head: Head
    reason: str
    others: tuple[Head, ...]

    def notice(self, pooled_heads: Sequence[Head] = ()) -> str | None:
        """What was chosen, and how to change it; `pooled_heads` are explained together with this one."""
        names = {head.logits.name for head in (self.head, *pooled_heads)}
        rejected = [head for head in self.others if head.logits.name not in names]
        if not rejected:
            return None
        explained = [self.head, *(head for head in self.others if head not in rejected)]
        verb = "is" if len(explained) == 1 else "are"
        return (
            f"of {1 + len(self.others)} outputs, {_list_heads(explained)} {verb} explained ({self.reason}); "
            f"--output NAME chooses another: {_list_heads(rejected)}"
        )


def _list_heads(heads: Sequence[Head]) -> str:
    """The names and shapes of the first outputs."""
    listed = (f"{head.output.name} {list(head.output.shape)}" for head in heads[:MAX_LISTED])
    return ", ".join(listed) + (", …" if len(heads) > MAX_LISTED else "")


def choose_output(heads: Sequence[Head], labels: int | None = None) -> OutputChoice:
    """Choose one of the heads; there must be at least one."""
    heads = _without_duplicates(heads)
    if len(heads) == 1:
        return OutputChoice(heads[0], REASONS[-1], ())
    ancestors = [_ancestors(head.logits) for head in heads]
    has_non_boxes = any(head.class_count != BOX for head in heads)
    evidence = [
        _evidence(
            head, labels, _is_intermediate(head, heads, ancestors), has_non_boxes=has_non_boxes
        )
        for head in heads
    ]
    first = evidence.index(max(evidence))
    equal_heads = [
        index
        for index, head in enumerate(heads)
        if (head.class_count, head.other_axes, evidence[index])
        == (heads[first].class_count, heads[first].other_axes, evidence[first])
        and (head.is_map or not head.other_axes)
    ]
    # of equal heads, those with a smaller map or that use less of the model are auxiliary
    sizes = {index: (_map_size(heads[index]), len(ancestors[index])) for index in equal_heads}
    best = max(sizes, key=lambda index: sizes[index], default=first)
    reason = _reason(heads, evidence, best)
    if best != first:
        reason = LARGER if sizes[best][0] > sizes[first][0] else DEEPER
    return OutputChoice(heads[best], reason, tuple(heads[:best] + heads[best + 1 :]))


def _map_size(head: Head) -> int:
    """How many pixels a map has, as far as the graph fixes that."""
    sizes = [head.logits.shape[axis] for axis in head.other_axes]
    return math.prod(size for size in sizes if isinstance(size, int))


def _reason(heads: list[Head], evidence: list[tuple[bool, ...]], best: int) -> str:
    """What distinguishes the best head from the second best, if possible one with a different class count."""
    others = [i for i, head in enumerate(heads) if head.class_count != heads[best].class_count]
    second = max(evidence[i] for i in others or range(len(heads)) if i != best)
    differs = [mine != theirs for mine, theirs in zip(evidence[best], second, strict=True)]
    return REASONS[differs.index(True) if any(differs) else -1]


def _without_duplicates(heads: Sequence[Head]) -> list[Head]:
    """The heads with different logits. Of logits and their probabilities, only the probabilities are kept."""
    by_logits: dict[str, Head] = {}
    for head in heads:
        name = head.logits.name
        if name not in by_logits or (
            head.output_activation and not by_logits[name].output_activation
        ):
            by_logits[name] = head
    return list(by_logits.values())


def _evidence(
    head: Head, labels: int | None, is_intermediate: bool, *, has_non_boxes: bool
) -> tuple[bool, ...]:
    """The evidence for a head, the strongest first (see `REASONS`)."""
    name = str(head.output.name)
    is_named_as_scores = bool(SCORE_NAMES.search(name))
    is_named_otherwise = bool(OTHER_NAMES.search(name)) and not is_named_as_scores
    has_softmax = head.output_activation in ("Softmax", "LogSoftmax")  # boxes never have one
    is_boxes = (
        has_non_boxes and head.class_count == BOX and not has_softmax and not is_named_as_scores
    )
    return (
        labels is not None and head.class_count == labels,
        not is_intermediate,
        not (is_named_otherwise or is_boxes or before_normalization(head.logits) is not None),
        not head.other_axes,
        bool(head.output_activation or head.inner_logits or head.class_columns),
        is_named_as_scores,
    )


def _is_intermediate(head: Head, heads: Sequence[Head], ancestors: Sequence[set[str]]) -> bool:
    """Whether one of the other heads is computed from this one."""
    names = {head.output.name, head.logits.name}
    return any(
        candidate is not head and names & sources
        for candidate, sources in zip(heads, ancestors, strict=True)
    )


def _ancestors(tensor: gs.Tensor) -> set[str]:
    """The names of all tensors that one is computed from."""
    names: set[str] = set()
    waiting = [tensor]
    while waiting:
        for node in waiting.pop().inputs:
            for source in (*node.inputs, *captured_tensors(node)):
                if source.name not in names and not isinstance(source, gs.Constant):
                    names.add(source.name)
                    waiting.append(source)
    return names
