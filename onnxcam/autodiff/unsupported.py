"""Operators without a gradient rule, each with the reason, and the nodes that block a derivative."""

from __future__ import annotations

from collections.abc import Collection

import onnx_graphsurgeon as gs

from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph.operators import TRAITS, operator_key, traits_of
from onnxcam.graph.reachability import carries_floats, is_float
from onnxcam.graph.traits import ZeroGradient

UNSUPPORTED: dict[str, str] = {  # a derivative exists, but there is no rule for it
    "If": "selects a branch at run time: fix the sizes of the input, or export one branch",
    "Loop": "repeats its body at run time: export it unrolled",
    "Scan": "iterates over steps at run time: export it unrolled",
    "LinearAttention": "iterates over steps at run time: export it as MatMul and CumSum, or unrolled",
    "MaxRoiPool": "takes maxima over regions: export RoiAlign instead",
    "CumProd": "multiplies along an axis: export it as Exp, CumSum and Log",
    "Det": "computes a determinant",
    "DFT": "computes complex numbers: export it as MatMul with cosines and sines",
    "STFT": "computes complex numbers: export it as Conv with cosines and sines",
    "OneHot": "writes numbers at indices: export it as Where and Equal",
    "BitCast": "reinterprets the bits of numbers, so it has no derivative",
    "TensorScatter": "writes into a cache: export the model without one",
    "Unique": "sorts and counts at run time: export the model without it before the score",
    **dict.fromkeys(
        ("SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert"),
        "holds tensors in a sequence: export Concat, Split or separate tensors instead",
    ),
    **dict.fromkeys(
        ("SequenceMap", "SplitToSequence", "ConcatFromSequence"),
        "holds tensors in a sequence: export Concat, Split or separate tensors instead",
    ),
    **dict.fromkeys(
        ("Optional", "OptionalGetElement"),
        "holds a tensor that may be missing: export the tensor itself",
    ),
}

REASONS: dict[ZeroGradient, str] = {
    "step": "is a step function, flat between its steps",
    "indices": "returns indices",
    "truth values": "returns truth values",
    "takes integers": "takes integers",
    "gives integers": "returns integers",
    "sizes": "reads sizes only",
    "constant": "is a constant",
    "random": "is random",
    "strings": "takes strings or bytes",
}
ZERO_GRADIENT = {  # no derivative flows through them in any model
    name: REASONS[traits.zero_gradient] for name, traits in TRAITS.items() if traits.zero_gradient
}


def reasons(operators: Collection[str]) -> dict[str, str]:
    """The reason, and what to do, for each operator in UNSUPPORTED."""
    return {name: UNSUPPORTED[name] for name in operators if name in UNSUPPORTED}


def blocking_nodes(
    graph: gs.Graph, source: str, goals: Collection[str], rules: Rules
) -> list[tuple[gs.Node, str]]:
    """The nodes between `source` and a goal that pass values but no derivatives, each with the reason."""
    reached, needed, blocking = {source}, set(goals), []
    for node in graph.nodes:
        rule = rules.rule_for(node)
        if any(
            tensor.name in reached
            and carries_floats(node, slot)
            and (rule is None or rule.function(slot) is not None)
            for slot, tensor in enumerate(node.inputs)
        ):
            reached.update(tensor.name for tensor in node.outputs if is_float(tensor))
    for node in reversed(graph.nodes):
        outputs = [tensor for tensor in node.outputs if tensor.name in needed]
        if outputs and not traits_of(node).reads_shape:
            needed.update(tensor.name for tensor in node.inputs)
            reads_reached = any(tensor.name in reached for tensor in node.inputs)
            if reads_reached and not any(tensor.name in reached for tensor in outputs):
                floats = any(map(is_float, outputs))
                reason = (
                    "has no derivative for this input" if floats else "passes on no float values"
                )
                reason = ZERO_GRADIENT.get(operator_key(node.op, node.domain), reason)
                blocking.append((node, reason))
    return blocking[::-1]
