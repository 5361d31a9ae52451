"""Write the explanation of a method into a model: `onnxcam.embed`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from onnxcam.defaults import DEFAULT_METHOD
from onnxcam.embedding.arguments import read_outputs, require_integers, with_embedded
from onnxcam.embedding.batch import with_size
from onnxcam.embedding.choose_rounds import Choice, choose_rounds
from onnxcam.embedding.draw import Drawing
from onnxcam.embedding.evidence import rounding_rule
from onnxcam.embedding.explained import Embedding
from onnxcam.embedding.maps import only_where, resize_map
from onnxcam.embedding.metadata import (
    EVERY_CLASS,
    LAYER_MAP,
    OVERLAY,
    PIXELS,
    SALIENCY,
    TARGET,
    EmbeddedExplanation,
    ScoreOutput,
    refuse_explained_source,
    write_metadata,
)
from onnxcam.embedding.network import Written, write_network
from onnxcam.embedding.notices import (
    describe_images,
    image_notices,
    setting_notices,
    suggest_held_targets,
    target_notices,
)
from onnxcam.embedding.order import forget_constant_shapes, forget_free_sizes, sort_nodes
from onnxcam.embedding.overlay import shown_from_tensor, write_overlay
from onnxcam.embedding.pixels import take_pixels
from onnxcam.embedding.public_names import (
    give_public_names,
    require_free_names,
    take_integers,
)
from onnxcam.embedding.read_target import (
    read_embedded_target,
    require_classes,
    split_target,
)
from onnxcam.errors import NeedsOpsetError
from onnxcam.explain.arguments import LayerSource
from onnxcam.explain.dense_labels import with_labels
from onnxcam.explain.explainer import Explainer
from onnxcam.explain.explanation import OPACITY, OUTLIERS
from onnxcam.explain.formula import BoundFormula
from onnxcam.explain.inputs import prepare_source
from onnxcam.explain.loaded_model import LoadedModel, read_model
from onnxcam.explain.read_target import kind_of
from onnxcam.explain.shared_model import SharedModel
from onnxcam.graph import anp
from onnxcam.image.preprocess import Preprocessing, gray_level, tensor_size
from onnxcam.methods.place import IMAGE
from onnxcam.methods.settings import settings_to_json
from onnxcam.methods.subset import Subset
from onnxcam.model.chosen_opset import require_opset, upgrade_to
from onnxcam.model.load import upgrade_model
from onnxcam.model.model import Model
from onnxcam.rewrite.weight_layout import lay_out_weights
from onnxcam.rewrite.weight_sharing import separate_shared_weights
from onnxcam.specs import AUTO, ImageInput, Plan
from onnxcam.targets.classes import DEFAULT_TARGET, Spec


@dataclass(frozen=True)
class EmbeddedModel:
    """A model with its explanation inside, and what a user should know about it."""

    model: Model
    explanation: EmbeddedExplanation
    notices: tuple[str, ...]

    def save(self, path: str | Path) -> tuple[Path, ...]:
        """Write the file; see `Model.save`."""
        return self.model.save(path)


def embed(
    model: str | Path | bytes | Model,
    method: str = DEFAULT_METHOD,
    layer: LayerSource = AUTO,
    *,
    target: Spec = DEFAULT_TARGET,
    target_input: bool = False,
    outputs: str | Sequence[str] = (SALIENCY,),
    takes_pixels: bool = False,
    batch: int | None = None,
    rounds: int | None = None,
    opset: int | None = None,
    small: bool = True,
    **options: Any,
) -> EmbeddedModel:
    """A model that returns, besides its own outputs, the map of a method: `saliency` (N, H, W) float32, raw, at
    the size of the input tensor, and on request `layer_map` (N, h, w), at that of the layer, and `overlay`
    (N, H, W, 3) uint8, the map drawn over the image.

    Args:
        model, method, layer: as of `Explainer`, which takes the other `options`, too.
        target: the class, contrast or rank that is explained; ranks are taken in the graph.
        target_input: whether the file has an input `target` (N,) int64: a class, or -1 for `target`. Any other
            number gives NaN, and a black overlay.
        outputs: which of `OUTPUTS` the file gets, as a sequence or separated by commas.
        takes_pixels: whether the file takes `pixels` (N, height, width, 3) uint8, RGB images of any size, and
            prepares them itself as the `preprocess` and `pixels` of `Explainer` say.
        batch: a number of images at once instead of the model's own; 1 leaves no free sizes in the graph.
        rounds: in how many rounds the samples of an image are run. By default, a Loop runs a few at a time
            where one batch of all would be large; 1 writes no Loop.
        opset: the opset of the file; by default the oldest that has all operators.
        small: whether weights that gradients read flipped or transposed are computed from the others, instead
            of stored a second time. Runtimes fold them; only quantized models take longer to run (4 %).

    Raises ModelError, SettingError, TargetError and UnknownNameError; their messages say what to do.
    """
    outputs = read_outputs(outputs)
    require_integers(batch=batch, rounds=rounds, opset=opset)
    refuse_explained_source(model)
    loaded = LoadedModel()
    shared = SharedModel((), loaded)
    explainer = Explainer(model, method, layer, shared=shared, **with_embedded(method, options))
    kind = kind_of(target, explainer.labels)
    if target_input:
        require_classes(target, kind)
    plan = explainer.runner_for(kind).plan
    size = tensor_size(explainer.preprocessing, plan.image)
    image = replace(plan.image, height=size[0], width=size[1])
    source = loaded.as_exported or read_model(model, explainer.inputs)  # None if a plan was cached
    require_free_names(source.graph, _names(outputs, target_input, takes_pixels))
    source = with_size(source if opset is None else upgrade_to(source, opset), size)
    drawing = _draw(explainer, image)
    _require_applicable(explainer, target, image)
    dense = plan.dense and with_labels(plan.dense, explainer.labels)
    what, where = split_target(target, plan, explainer.labels)
    embedding = Embedding(
        explainer.demand.for_target(kind).request,
        drawing,
        plan.layers
        if explainer.method.has_layer or explainer.method.at != IMAGE
        else (image.as_layer(),),
        target=read_embedded_target(what, explainer, plan),
        takes_target=target_input,
        score=plan.score,
        dense=dense,
        where=where,
        fuse=explainer.fuse,
        rounding=rounding_rule(plan, drawing.formula),
    )
    ends = partial(_write_ends, explainer, image, outputs, takes_pixels)
    written, choice = _write(source, plan, embedding, batch, rounds, ends)
    if opset is not None:
        require_opset(written.model, opset)
    images = describe_images(explainer, size, takes_pixels, OVERLAY in outputs)
    explanation = _describe(explainer, plan, source, choice.embedding, images, takes_pixels)
    result = write_metadata(_finish(written.model, small), explanation)
    notices = [*suggest_held_targets([*explainer.notices, *result.notices]), *choice.notices]
    notices += setting_notices(explainer, options)
    notices += target_notices(explainer, target, target_input)
    notices += image_notices(explainer, options, takes_pixels, OVERLAY in outputs)
    return EmbeddedModel(result, explanation, tuple(dict.fromkeys(notices)))


def _names(outputs: Sequence[str], target_input: bool, takes_pixels: bool) -> list[str]:
    """Of the inputs and outputs that the explanation adds."""
    return [*outputs, *[TARGET] * target_input, *[PIXELS] * takes_pixels]


def _draw(explainer: Explainer, image: ImageInput) -> Drawing:
    return Drawing(
        BoundFormula(explainer.method, explainer.settings, Subset(None, None)),
        image,
        partial(gray_level, explainer.preprocessing, image),
        lambda path: prepare_source(path, 0, explainer.preprocessing, image).tensor,
    )


def _require_applicable(explainer: Explainer, target: Spec, image: ImageInput) -> None:
    """Explain a random image if the method checks what it gets. ModelError if it does not apply."""
    if explainer.method.check is not None:
        shape = [size if isinstance(size, int) else 1 for size in image.shape]
        noise = np.random.default_rng(0).normal(size=shape)
        explainer(noise.astype(image.dtype), target)


def _write(
    source: Model,
    plan: Plan,
    embedding: Embedding,
    batch: int | None,
    requested: int | None,
    write_ends: Callable[[Written], None],
) -> tuple[Written, Choice]:
    """The network in as many rounds as fit it, with its other inputs and outputs, and how it was written."""
    choice = choose_rounds(source, plan, embedding, batch, requested)
    network, embedding = choice.network, choice.embedding
    while True:
        try:
            written = write_network(network, embedding)
            write_ends(written)
            return written, choice
        except NeedsOpsetError as need:
            network = upgrade_model(network, need.opset)


def _write_ends(
    explainer: Explainer,
    image: ImageInput,
    outputs: Sequence[str],
    takes_pixels: bool,
    written: Written,
) -> None:
    """The input `pixels`, and the outputs of the explanation."""
    build, settings, tensor = written.build, explainer.preprocessing, written.image
    method, images = explainer.method, tensor.shape[0]
    values = {LAYER_MAP: written.saliency}
    if {SALIENCY, OVERLAY} & set(outputs):
        height, width = image.height or 0, image.width or 0
        values[SALIENCY] = resize_map(written.saliency, height, width)
    public = {} if written.target_name is None else {written.target_name: TARGET}
    if takes_pixels:
        public[name := build.unique_name(PIXELS)] = PIXELS
        shown = take_pixels(build, tensor, settings, image, name)
    elif tensor.dtype != image.dtype:
        public[take_integers(build, tensor, image.dtype)] = tensor.name
    if OVERLAY in outputs:
        outliers = 0.0 if method.has_layer else OUTLIERS
        shown = shown if takes_pixels else shown_from_tensor(tensor, settings, image)
        drawn = values[SALIENCY]
        if method.is_relative:
            drawn = drawn - anp.min(drawn, axis=(1, 2), keepdims=True)
        values[OVERLAY] = write_overlay(
            drawn, shown, signed=method.signed, opacity=OPACITY, outliers=outliers
        )
    for name in outputs:
        public[inner := build.unique_name(name)] = name
        build.output(only_where(values[name], written.target_exists), inner)
        build.graph.outputs[-1].shape = [images, *values[name].shape[1:]]
    give_public_names(build.graph, public)


def _finish(model: Model, small: bool) -> Model:
    graph = sort_nodes(model.graph)
    for scope in (graph, *graph.subgraphs(recursive=True)):
        forget_free_sizes(scope)
    separate_shared_weights(graph)
    laid_out = lay_out_weights(replace(model, graph=graph), once=small)
    for scope in (laid_out.graph, *laid_out.graph.subgraphs(recursive=True)):
        forget_constant_shapes(scope)
    return laid_out


def _describe(
    explainer: Explainer,
    plan: Plan,
    source: Model,
    embedding: Embedding,
    images: Preprocessing | None,
    takes_pixels: bool,
) -> EmbeddedExplanation:
    score, rounds = plan.score, embedding.rounds
    return EmbeddedExplanation(
        method=explainer.method.name,
        layers=tuple(layer.name for layer in plan.layers) if explainer.method.has_layer else (),
        model_name=source.name,
        model_sha256=source.digest,
        target=embedding.target.name if explainer.method.needs_target else EVERY_CLASS,
        takes_target=embedding.takes_target,
        settings=settings_to_json(explainer.settings),
        preprocessing=images,
        takes_pixels=takes_pixels,
        samples=0 if rounds.is_alone else rounds.samples,
        rounds=rounds.count,
        signed=explainer.method.signed,
        score=ScoreOutput(score.output, score.classes, score.output_activation),
        labels=explainer.labels,
    )
