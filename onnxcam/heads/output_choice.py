"""Which of several outputs is explained: the one with the strongest evidence in the graph."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from onnxcam.graph.reachability import captured_tensors, producer
from onnxcam.heads.detection_columns import BOX
from onnxcam.heads.heads import Head

SCORES = re.compile(r"logit|prob|score|class|cls|conf|pred|label|softmax", re.IGNORECASE)
OTHERS = re.compile(
    r"box|bbox|loc|coord|landm|kps|key_?point|embed|feat|mask|proto|offset|anchor|angle|regress",
    re.IGNORECASE,
)
LENGTHS = {"ReduceL2", "Sqrt"}
REASONS = (  # the strongest first, see `_evidence`
    "it has one score per label",
    "the other one is an intermediate result",
    "the other one looks like boxes or an embedding",
    "it has one score per class, not per pixel or box",
    "it ends in Softmax or Sigmoid",
    "its name suggests scores",
    "it comes first",
)
DEEPER = "it uses more of the model"
LISTED = 6  # how many outputs a notice names


@dataclass(frozen=True)
class Choice:
    """The head that is explained, the reason for it, and the other heads."""

    head: Head
    reason: str
    others: tuple[Head, ...]

    def notice(self, besides: Sequence[Head] = ()) -> str | None:
        """What was assumed, and how to change it; the heads `besides` are explained, too."""
        taken = {head.logits.name for head in (self.head, *besides)}
        left = [head for head in self.others if head.logits.name not in taken]
        if not left:
            return None
        explained = [self.head, *(head for head in self.others if head not in left)]
        return (
            f"of {1 + len(self.others)} outputs, {_listed(explained)} {'is' if len(explained) == 1 else 'are'} "
            f"explained ({self.reason}); --output NAME chooses another: {_listed(left)}"
        )


def _listed(heads: Sequence[Head]) -> str:
    """The names and shapes of the first outputs."""
    listed = (f"{head.output.name} {list(head.output.shape)}" for head in heads[:LISTED])
    return ", ".join(listed) + (", …" if len(heads) > LISTED else "")


def choose(heads: Sequence[Head], labels: int | None = None) -> Choice:
    """Choose one of the heads; there must be at least one."""
    heads = _different(heads)
    if len(heads) == 1:
        return Choice(heads[0], REASONS[-1], ())
    before = [_before(head.logits) for head in heads]
    boxes = any(head.count != BOX for head in heads)
    evidence = [
        _evidence(head, labels, _on_the_way(head, heads, before), has_others=boxes)
        for head in heads
    ]
    first = evidence.index(max(evidence))
    alike = [
        i
        for i, head in enumerate(heads)
        if (head.count, head.others, evidence[i]) == (heads[first].count, (), evidence[first])
    ]
    best = max(alike, key=lambda i: len(before[i])) if alike else first  # others are auxiliary
    reason = DEEPER if best != first else _reason(heads, evidence, best)
    return Choice(heads[best], reason, tuple(heads[:best] + heads[best + 1 :]))


def _reason(heads: list[Head], evidence: list[tuple[bool, ...]], best: int) -> str:
    """What distinguishes the best head from the second best, if possible one with a different class count."""
    others = [i for i, head in enumerate(heads) if head.count != heads[best].count]
    second = max(evidence[i] for i in others or range(len(heads)) if i != best)
    differ = [own != other for own, other in zip(evidence[best], second, strict=True)]
    return REASONS[differ.index(True) if any(differ) else -1]


def _different(heads: Sequence[Head]) -> list[Head]:
    """The heads without duplicates: of logits and their probabilities, the probabilities, which tell more."""
    different: dict[str, Head] = {}
    for head in heads:
        name = head.logits.name
        if name not in different or (head.squashing and not different[name].squashing):
            different[name] = head
    return list(different.values())


def _evidence(
    head: Head, labels: int | None, on_the_way: bool, *, has_others: bool
) -> tuple[bool, ...]:
    name = str(head.output.name)
    other = bool(OTHERS.search(name)) and not SCORES.search(name)
    shares = head.squashing in ("Softmax", "LogSoftmax")  # which the numbers of a box never have
    boxes = has_others and head.count == BOX and not shares and not SCORES.search(name)
    return (
        labels is not None and head.count == labels,
        not on_the_way,
        not (other or boxes or _is_normalised(head.logits)),
        not head.others,
        bool(head.squashing or head.inner or head.columns),
        bool(SCORES.search(name)),
    )


def _on_the_way(head: Head, heads: Sequence[Head], before: Sequence[set[str]]) -> bool:
    """Whether another head is computed from this one."""
    names = {head.output.name, head.logits.name}
    return any(
        other is not head and names & ancestors
        for other, ancestors in zip(heads, before, strict=True)
    )


def _before(tensor: gs.Tensor) -> set[str]:
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


def _is_normalised(tensor: gs.Tensor) -> bool:
    """Whether the numbers were divided by their norm, as in an embedding."""
    node = producer(tensor)
    if node is None or node.op != "Div":
        return node is not None and node.op == "LpNormalization"
    length = node.inputs[1]
    while length.inputs and length.inputs[0].op in (*LENGTHS, "Clip", "Expand", "Max", "Add"):
        if length.inputs[0].op in LENGTHS:
            return True
        length = length.inputs[0].inputs[0]
    return False
