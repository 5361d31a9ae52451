"""Operators without a gradient rule, each with the reason; what stands in the way of a derivative."""

from __future__ import annotations

from collections.abc import Collection

import onnx_graphsurgeon as gs

from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph.operators import TRAITS, operator_key, traits_of
from onnxcam.graph.reachability import carries_floats, is_float
from onnxcam.graph.traits import ZeroGradient

UNSUPPORTED: dict[
    str, str
] = {  # floats flow through them, but nothing is written for what flows back
    "If": "takes a branch by what is fed: fix the sizes of the input, or export one branch",
    "Loop": "counts its rounds as it runs: export it unrolled",
    "Scan": "walks its steps as it runs: export it unrolled",
    "LinearAttention": "walks its steps as it runs: export it as MatMul and CumSum, or unrolled",
    "GRU": "is a recurrent cell without a rule: unroll it, or take LSTM",
    "RNN": "is a recurrent cell without a rule: unroll it, or take LSTM",
    "MaxRoiPool": "takes maxima of regions: export RoiAlign in its place",
    "CumProd": "multiplies along an axis: export it as Exp, CumSum and Log",
    "Det": "is a determinant, which no picture model needs on its way",
    "DFT": "is complex: export it as MatMul with cosines and sines",
    "STFT": "is complex: export it as Conv with cosines and sines",
    "OneHot": "places a number by an index: export it as Where and Equal",
    "BitCast": "reads numbers as other bits: no derivative can be told",
    "TensorScatter": "writes into a cache: export the model without one",
    "Unique": "sorts and counts as it runs: take it out of the way of the score",
    **dict.fromkeys(
        ("SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert"),
        "holds tensors in a sequence: export Concat, Split or separate tensors in its place",
    ),
    **dict.fromkeys(
        ("SequenceMap", "SplitToSequence", "ConcatFromSequence"),
        "holds tensors in a sequence: export Concat, Split or separate tensors in its place",
    ),
    **dict.fromkeys(
        ("Optional", "OptionalGetElement"),
        "holds a tensor that may be missing: export the tensor itself",
    ),
}

WORDS: dict[ZeroGradient, str] = {
    "step": "is a step function, flat between its steps",
    "indices": "gives places",
    "truth values": "gives truth values",
    "takes integers": "takes whole numbers",
    "gives integers": "gives whole numbers",
    "sizes": "reads sizes only",
    "constant": "is a constant",
    "random": "is drawn at random",
    "strings": "takes strings or bytes",
}
ZERO_GRADIENT = {  # no derivative flows through them in any model
    name: WORDS[row.zero_gradient] for name, row in TRAITS.items() if row.zero_gradient
}


def reasons(operators: Collection[str]) -> dict[str, str]:
    """The reason and the cure of each operator that one is known of."""
    return {each: UNSUPPORTED[each] for each in operators if each in UNSUPPORTED}


def blocking_nodes(
    graph: gs.Graph, source: str, goals: Collection[str], rules: Rules
) -> list[tuple[gs.Node, str]]:
    """The nodes that values pass on their way from `source` to a goal, but derivatives do not, and why."""
    alive, needed, found = {source}, set(goals), []
    for node in graph.nodes:
        rule = rules.rule_for(node)
        if any(
            each.name in alive
            and carries_floats(node, slot)
            and (rule is None or rule.function(slot) is not None)
            for slot, each in enumerate(node.inputs)
        ):
            alive.update(each.name for each in node.outputs if is_float(each))
    for node in reversed(graph.nodes):
        written = [each for each in node.outputs if each.name in needed]
        if written and not traits_of(node).reads_shape:
            needed.update(each.name for each in node.inputs)
            fed = any(each.name in alive for each in node.inputs)
            if fed and not any(each.name in alive for each in written):
                floats = any(map(is_float, written))
                why = "has no derivative by this input" if floats else "returns no floats there"
                found.append((node, ZERO_GRADIENT.get(operator_key(node.op, node.domain), why)))
    return found[::-1]
