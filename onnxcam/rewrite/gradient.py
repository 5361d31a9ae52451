"""Models that return gradients: the cotangent of a score is an input, the gradients are outputs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import onnx_graphsurgeon as gs

from onnxcam.arrays import Shape
from onnxcam.autodiff.backward import backward, propagates
from onnxcam.autodiff.peepholes.optimize import optimize_gradient
from onnxcam.autodiff.reference import REFERENCE_SCORE, write_reference
from onnxcam.autodiff.rule_table import Reference, Rules
from onnxcam.autodiff.tables import RULE_TABLES
from onnxcam.autodiff.weight_inputs import readers_of_computed_weights
from onnxcam.errors import ModelError, NeedsOpsetError
from onnxcam.graph.node_errors import reports_node
from onnxcam.graph.reachability import subgraph_between
from onnxcam.graph.tracing import Builder, Value
from onnxcam.heads.score import class_count_of, find_score
from onnxcam.model.image_input import image_input
from onnxcam.model.load import upgrade_model
from onnxcam.model.model import Model
from onnxcam.passes.expand_functions import expand_functions
from onnxcam.passes.unneeded_rows import drop_unneeded_rows
from onnxcam.rewrite.augmented import activation_at
from onnxcam.rewrite.loss_scale import (
    accumulation_dtype,
    apply_loss_scale,
    loss_scale,
    sum_in_float32,
)
from onnxcam.rewrite.per_image import absorbed_at, add_per_image
from onnxcam.rewrite.weight_sharing import separate_shared_weights
from onnxcam.specs import SEED, gradient_at

__all__ = ["SEED", "augment", "expand_operators_without_rules", "gradient"]


@reports_node
def gradient(
    model: Model, wrt: Sequence[str], of: str | None = None, rules: str | Rules = "default"
) -> Model:
    """A copy of the model that returns gradients of the tensor `of` with respect to the tensors `wrt`.

    It has an extra input `seed`, the cotangent of `of`, in its shape and dtype. For a half precision the seed
    and the gradients are float32 (see `rewrite/loss_scale.py`). By default `of` is the logits of a classifier:
    its scores before the last Softmax or Sigmoid. Extra outputs: `gradient/<tensor>` for each of `wrt`, those
    tensors themselves, and `of`. The gradient of a batch is that of the sum over the batch, which is the
    gradient of each image unless images influence each other. The opset is upgraded only if an operator in a
    gradient needs it.

    A table may start with another cotangent than the seed (`lrp`: with the seed times the score).

    A table whose rules compare with a reference image (`deep-lift`) adds the input `onnxcam/sample/reference`,
    in the dtype and shape of the image input; its batch is 1, or as many as there are images. The output
    `onnxcam/reference_score` is the tensor `of` on it. One whose rules
    absorb a part of the score (`lrp`, for biases) adds the output `onnxcam/absorbed`, (N,).

    Raises UnknownNameError for an unknown tensor, MissingRuleError with all operators on the way that have no
    rule, ModelError if `of` does not depend on a tensor.
    """
    table = RULE_TABLES[rules] if isinstance(rules, str) else rules
    score = find_score(model).logits if of is None else of
    written = gradients(model, score, [Sweep(table, wrt)])
    separate_shared_weights(written.graph)
    return written


class Sweep(NamedTuple):
    """One backward pass: its rules, the tensors whose gradients are outputs `gradient_at(tensor, name)`, and
    what they are gradients of: a score with the shape of the model's, or "" for that of the model.
    """

    rules: Rules
    wrt: Sequence[str]
    name: str = ""
    score: str = ""


def gradients(model: Model, of: str, sweeps: Sequence[Sweep]) -> Model:
    """A copy of the model with the gradients of several backward passes; see `gradient`."""
    while True:
        expanded = model
        try:
            for sweep in sweeps:
                expanded = expand_operators_without_rules(
                    expanded, sweep.wrt, sweep.score or of, sweep.rules, _preserved(of, sweeps)
                )
            return _write_gradients(expanded, of, sweeps)
        except NeedsOpsetError as need:
            model = upgrade_model(model, need.opset)


@reports_node
def expand_operators_without_rules(
    model: Model, wrt: Collection[str], of: str, rules: Rules, preserved: Collection[str] = ()
) -> Model:
    """A copy in which operators on the way that have no rule are replaced by their definitions, if ONNX has
    one. The tensors whose names are in `preserved` still exist in it.
    """
    copy = model.copy()
    while True:
        path = subgraph_between(copy.graph, wrt, {of}, propagates(rules))
        replaceable = [node for node in path.nodes if rules.rule_for(node) is None]
        # replaced by simpler operators (Clip), they need no constant weights
        replaceable += readers_of_computed_weights(copy.graph, wrt, {of}, rules)
        if not replaceable or not expand_functions(copy.graph, replaceable, {*wrt, of, *preserved}):
            return copy


def _write_gradients(model: Model, of: str, sweeps: Sequence[Sweep]) -> Model:
    needs_image = any(sweep.rules.needs_reference for sweep in sweeps)
    image = image_input(model).name if needs_image else None
    wrt = list(dict.fromkeys(name for sweep in sweeps for name in sweep.wrt))
    drop_unneeded_rows(model.graph, _preserved(of, sweeps))
    build = Builder(model.graph)
    score = build.value(of)
    tensors = [build.value(name) for name in wrt]
    seed = build.batch = build.input(
        SEED, accumulation_dtype(score.dtype), _seed_shape(model.graph, score)
    )
    scales = [
        loss_scale(model.graph, sweep.wrt, sweep.score or of, sweep.rules) for sweep in sweeps
    ]
    reference = write_reference(build, image, of) if image else None
    start = len(model.graph.nodes)
    outputs = {tensor.name for tensor in model.graph.outputs}
    for value in (score, *tensors):
        if value.name not in outputs:
            model.graph.outputs.append(value.tensor)
            outputs.add(value.name)
    if reference is not None:
        build.output(reference(score), REFERENCE_SCORE)
    for sweep, scale in zip(sweeps, scales, strict=True):
        explained = build.value(sweep.score) if sweep.score else score
        _write_sweep(build, seed, explained, sweep, scale, reference)
    optimize_gradient(model.graph, start)
    sum_in_float32(model.graph)
    model.graph.cleanup(remove_unused_graph_inputs=False)
    return model


def _preserved(of: str, sweeps: Sequence[Sweep]) -> set[str]:
    """The tensors that must not change: the scores, and what gradients are taken at."""
    return {of, *(name for sweep in sweeps for name in (*sweep.wrt, sweep.score or of))}


def _write_sweep(
    build: Builder,
    seed: Value,
    score: Value,
    sweep: Sweep,
    scale: float,
    reference: Reference | None,
) -> None:
    """Add the outputs with the gradients of one backward pass."""
    rules, absorbed = sweep.rules, list[Value]()
    first = rules.start(seed, score.astype(seed.dtype)) if rules.start else seed
    seeds = {score.name: apply_loss_scale(first, scale).astype(score.dtype)}
    gradients = backward(build, seeds, sweep.wrt, rules, reference, absorbed.append)
    unreached = [name for name in sweep.wrt if name not in gradients]
    if unreached:
        raise ModelError(
            f"no gradient reaches {', '.join(map(repr, unreached))} from {score.name!r}; "
            "choose a tensor that the score depends on (`onnxcam layers`)"
        )
    for name in dict.fromkeys(sweep.wrt):
        wide = gradients[name].astype(accumulation_dtype(gradients[name].dtype))
        build.output(apply_loss_scale(wide, 1 / scale), gradient_at(name, sweep.name))
    if rules.absorbs:
        total = apply_loss_scale(add_per_image(absorbed, seed), 1 / scale)
        build.output(total, absorbed_at(sweep.name))


def _seed_shape(graph: gs.Graph, score: Value) -> Shape:
    """The score's shape. If it has one number per class, its first axis is the batch and gets the name of the
    inputs' batch axis, so that gradients that depend only on the size of the batch need no forward pass.
    """
    shape, names = score.shape, {tensor.shape[0] for tensor in graph.inputs if tensor.shape}
    is_free = len(names) == 1 and not any(isinstance(name, int) for name in names)
    if is_free and class_count_of(score.tensor) and isinstance(shape[0], str):
        return (names.pop(), *shape[1:])
    return shape


@reports_node
def augment(
    model: Model, layers: Sequence[str], of: str | None = None, rules: str | Rules = "default"
) -> Model:
    """`gradient`, with the layers' values as extra outputs `activation/<layer>`."""
    of = find_score(model).logits if of is None else of
    augmented = gradient(model, layers, of, rules)
    build = Builder(augmented.graph)
    names = {of, *(tensor.name for tensor in model.graph.outputs), *map(gradient_at, layers)}
    outputs = augmented.graph.outputs
    augmented.graph.outputs = [tensor for tensor in outputs if tensor.name in names]
    for name in dict.fromkeys(layers):
        build.output(build.value(name), activation_at(name))
    return augmented
