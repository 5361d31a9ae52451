"""Models that return gradients: the cotangent of a score goes in, gradients come out."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx_graphsurgeon as gs

from onnxcam.arrays import Shape
from onnxcam.autodiff.backward import backward, propagates
from onnxcam.autodiff.peepholes.optimize import optimize_gradient
from onnxcam.autodiff.rule_table import Rules
from onnxcam.autodiff.rules import RULE_TABLES
from onnxcam.autodiff.weight_inputs import readers_of_computed_weights
from onnxcam.errors import ModelError, NeedsOpsetError
from onnxcam.graph.node_errors import reports_node
from onnxcam.graph.reachability import subgraph_between
from onnxcam.graph.tracing import Builder, Value
from onnxcam.heads.score import classes_of, find_score
from onnxcam.model.load import upgrade_model
from onnxcam.model.model import Model
from onnxcam.passes.expand_functions import expand_functions
from onnxcam.passes.unneeded_rows import drop_unneeded_rows
from onnxcam.rewrite.loss_scale import (
    accumulation_dtype,
    apply_loss_scale,
    loss_scale,
    sum_in_float32,
)
from onnxcam.specs import SEED, gradient_at

__all__ = ["SEED", "augment", "gradient", "simplified"]


@reports_node
def gradient(
    model: Model, wrt: Sequence[str], of: str | None = None, rules: str | Rules = "default"
) -> Model:
    """A model with an extra input `seed`, the cotangent of the tensor `of`, in its shape and dtype.
    Where that is a half precision the seed and the gradients are of float32 (see `rewrite/loss_scale.py`).
    Without `of` it is the logits of a classifier: its scores before the last Softmax or Sigmoid.

    Extra outputs: `gradient/<tensor>` for each of `wrt`, those tensors themselves, and `of`. The
    gradient of a batch is that of the sum over it, which is each picture's own as long as pictures do not
    mix. The model is raised to a newer opset only if an operator that a rule writes needs it.

    Raises UnknownNameError for a tensor that is not there, MissingRuleError that lists every operator on
    the way without a rule, ModelError where a tensor does not reach `of`.
    """
    table = RULE_TABLES[rules] if isinstance(rules, str) else rules
    score = find_score(model).logits if of is None else of
    while True:
        try:
            return _written(simplified(model, wrt, score, table), wrt, score, table)
        except NeedsOpsetError as need:
            model = upgrade_model(model, need.opset)


@reports_node
def simplified(model: Model, wrt: Collection[str], of: str, rules: Rules) -> Model:
    """A copy in which every operator on the way without a rule is taken apart, as far as ONNX defines it."""
    copied = model.copy()
    while True:
        path = subgraph_between(copied.graph, wrt, {of}, propagates(rules))
        missing = [each for each in path.nodes if rules.rule_for(each) is None]
        # defined by simpler operators (Clip), they need no constant weights
        missing += readers_of_computed_weights(copied.graph, wrt, {of}, rules)
        if not missing or not expand_functions(copied.graph, missing, {*wrt, of}):
            return copied


def _written(model: Model, wrt: Sequence[str], of: str, rules: Rules) -> Model:
    drop_unneeded_rows(model.graph, {*wrt, of})
    build, start = Builder(model.graph), len(model.graph.nodes)
    score = build.value(of)
    tensors = [build.value(name) for name in wrt]
    scale = loss_scale(model.graph, wrt, of, rules)
    seed = build.batch = build.input(
        SEED, accumulation_dtype(score.dtype), _seed_shape(model.graph, score)
    )
    found = backward(build, {of: apply_loss_scale(seed, scale).astype(score.dtype)}, wrt, rules)
    unreached = [name for name in wrt if name not in found]
    if unreached:
        raise ModelError(
            f"nothing flows from {of!r} back to {', '.join(map(repr, unreached))}: "
            "choose a tensor that the score depends on (`onnxcam layers`)"
        )
    outputs = {each.name for each in model.graph.outputs}
    for each in (score, *tensors):
        if each.name not in outputs:
            model.graph.outputs.append(each.tensor)
            outputs.add(each.name)
    for name in dict.fromkeys(wrt):
        whole = found[name].astype(accumulation_dtype(found[name].dtype))
        build.output(apply_loss_scale(whole, 1 / scale), gradient_at(name))
    optimize_gradient(model.graph, start)
    sum_in_float32(model.graph)
    model.graph.cleanup(remove_unused_graph_inputs=False)
    return model


def _seed_shape(graph: gs.Graph, score: Value) -> Shape:
    """The score's shape. Of one number a class the first axis is the batch: it is called what the inputs
    call theirs, so that gradients that depend on the batch's size only need no forward pass.
    """
    shape, names = score.shape, {each.shape[0] for each in graph.inputs if each.shape}
    batch = len(names) == 1 and not any(isinstance(each, int) for each in names)
    if batch and classes_of(score.tensor) and isinstance(shape[0], str):
        return (names.pop(), *shape[1:])
    return shape


@reports_node
def augment(
    model: Model, layers: Sequence[str], of: str | None = None, rules: str | Rules = "default"
) -> Model:
    """`gradient`, with each layer's values as `activation/<layer>` beside its `gradient/<layer>`."""
    of = find_score(model).logits if of is None else of
    augmented = gradient(model, layers, of, rules)
    build = Builder(augmented.graph)
    kept = {each.name for each in model.graph.outputs} | set(map(gradient_at, layers))
    kept.add(of)
    augmented.graph.outputs = [each for each in augmented.graph.outputs if each.name in kept]
    for name in dict.fromkeys(layers):
        build.output(build.value(name), f"activation/{name}")
    return augmented
