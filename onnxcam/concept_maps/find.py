"""Find the concepts of a layer over a set of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxcam.arrays import Floats, Scores
from onnxcam.concept_maps.class_target import read_class
from onnxcam.concept_maps.concepts import Concepts, LoadTensor
from onnxcam.concept_maps.factorization import Factorization, factorize, sums
from onnxcam.concept_maps.source import ConceptSource, as_cells
from onnxcam.concept_maps.tail import class_derivatives
from onnxcam.errors import ImageError, OnnxcamError, SettingError
from onnxcam.explain.activations import ImageActivations, read_activations
from onnxcam.explain.explanation import ExplainedImage
from onnxcam.explain.inputs import ImageSource, as_sources, input_loaders
from onnxcam.explain.pipeline import ErrorCallback
from onnxcam.explain.run import ProgressCallback, no_progress
from onnxcam.image.read import read
from onnxcam.image.read_array import is_array_file
from onnxcam.specs import AUTO
from onnxcam.targets.classes import DEFAULT_TARGET, Spec

CONCEPTS, BEST = 8, 5  # how many there are, and how many images show each of them
NO_CLASS_SCORES = "the model has scores at positions, so its concepts have maps but no class scores"
CLASS_SCORES = "the class score of a concept"  # what needs a class, in errors
NEGLIGIBLE = 1e-3  # part of the activations that may be clipped without a notice


def concepts(
    model: Any,
    images: ImageSource | Iterable[ImageSource],
    layer: str | int = AUTO,
    *,
    count: int = CONCEPTS,
    best: int = BEST,
    target: Spec = DEFAULT_TARGET,
    seed: int = 0,
    progress: ProgressCallback = no_progress,
    on_error: ErrorCallback | None = None,
    **arguments: Any,
) -> Concepts:
    """The concepts of which a layer's activations over some images are made: a non-negative factorization
    A ~ W H (Collins et al. 2018, "Deep feature factorization for concept discovery", section 3), and for each
    concept which class scores it raises on the `best` images, those where it is strongest.

    With a `target`, a class or a contrast of classes, each concept has its class score for that, too; "top1",
    the default, stands for the classes that it raises and lowers most.

    Negative activations count as 0. The activations of all images are in memory at a time. `progress` counts
    images, and again those that show a concept best. An image that fails raises its error; with `on_error`, the
    function gets its source and the error, and it is left out. `arguments` are those of `Explainer`:
    preprocess, labels, device, … Raises SettingError, TargetError, ImageError, ModelError and RunError.
    """
    source = ConceptSource(model, layer, arguments)
    chosen = None if target == DEFAULT_TARGET else read_class(source, target, CLASS_SCORES)
    result = find_concepts(source, images, count, best, seed, progress, on_error)
    return replace(result, target=chosen)


def find_concepts(
    source: ConceptSource,
    images: ImageSource | Iterable[ImageSource],
    count: int,
    best: int,
    seed: int,
    progress: ProgressCallback = no_progress,
    on_error: ErrorCallback | None = None,
) -> Concepts:
    """The same as `concepts`, of a model that may have been opened before."""
    if best < 1:
        raise SettingError(f"best={best}: expected a number of images, 1 or more")
    sources = [*as_sources(images)]
    rows, positions = _read(source, sources, progress, on_error)
    cells = np.concatenate([as_cells(row.activation) for row in rows])
    clipped = _clip(cells)
    factors = factorize(cells, count, seed=seed)
    result = Concepts(
        source=source,
        layer=source.layer_name,
        images=tuple(_without_pixels(row.image) for row in rows),
        grids=tuple((row.activation.shape[1], row.activation.shape[2]) for row in rows),
        weights=factors.weights,
        directions=factors.directions,
        shares=sums(factors.weights, factors.directions) / cells.sum(dtype=np.float64),
        error=factors.error,
        clipped=clipped,
        notices=tuple(_notices(source, rows, factors, clipped)),
        settings={"count": count, "seed": seed, "iterations": factors.iterations},
        scores=np.stack([row.scores for row in rows]),
        tensors=tuple(_tensor_loaders(source, sources, positions)),
    )
    result = replace(result, best=_best_images(result, best))
    if source.tail.plan.dense is not None:
        return replace(result, notices=(*result.notices, NO_CLASS_SCORES))
    return replace(result, effects=_class_effects(result, progress))


def _read(
    source: ConceptSource,
    sources: Sequence[ImageSource],
    progress: ProgressCallback,
    on_error: ErrorCallback | None,
) -> tuple[list[ImageActivations], list[int]]:
    """The activations of all images, and their positions among those that did not fail either."""
    failures: list[OnnxcamError] = []

    def skip(failed: Any, error: OnnxcamError) -> None:
        failures.append(error)
        if on_error is not None:
            on_error(failed, error)

    rows: list[ImageActivations] = []
    positions: list[int] = []
    callback = None if on_error is None else skip
    for row in read_activations(source.activations, sources, progress=progress, on_error=callback):
        positions.append(len(rows) + len(failures))
        rows.append(row)
    if not rows:
        raise (
            failures[0]
            if failures
            else ImageError("there are no images to find concepts in; pass at least one")
        )
    return rows, positions


def _clip(cells: Floats) -> float:
    """Set negative activations to 0, in place. Returns their part, by magnitude."""
    magnitude = np.abs(cells).sum(dtype=np.float64)
    np.maximum(cells, 0.0, out=cells)
    return float(1 - cells.sum(dtype=np.float64) / magnitude) if magnitude else 0.0


def _without_pixels(image: ExplainedImage) -> ExplainedImage:
    """The image; one in a file is read again when it is drawn, and until then takes no memory."""
    path = image.source
    if path is None or is_array_file(Path(path)):
        return image
    return replace(image, original=lambda: read(path))


def _notices(
    source: ConceptSource,
    rows: Sequence[ImageActivations],
    factors: Factorization,
    clipped: float,
) -> Iterator[str]:
    explainer = source.activations
    yield from explainer.notices
    if explainer.preprocessing_notice and any(row.image.notice == "" for row in rows):
        yield explainer.preprocessing_notice
    yield from dict.fromkeys(row.image.notice for row in rows if row.image.notice)
    if clipped > NEGLIGIBLE:
        yield (
            f"{100 * clipped:.0f} % of the activations at {source.layer_name} are negative and count as 0; a "
            "layer after a ReLU has none (list the layers with `onnxcam layers`)"
        )
    if not factors.is_converged:
        yield "the factorization had not converged when it was stopped; try fewer concepts"


def _best_images(concepts: Concepts, count: int) -> tuple[tuple[int, ...], ...]:
    """For each concept the numbers of the images with the largest mean square of its weights."""
    numbers = range(len(concepts.images))
    strengths = np.array([np.square(concepts.maps(n)).mean(axis=(1, 2)) for n in numbers])
    order = np.argsort(-strengths, axis=0, kind="stable")[:count]
    return tuple(
        tuple(int(n) for n in column if strengths[n, concept] > 0)
        for concept, column in enumerate(order.T)
    )


def _tensor_loaders(
    source: ConceptSource, sources: Sequence[ImageSource], positions: Sequence[int]
) -> list[LoadTensor]:
    """What prepares each of the images again."""
    explainer = source.activations
    loaders = [*input_loaders(sources, explainer.preprocessing, explainer.plan.image)]

    def loader(position: int) -> LoadTensor:
        return lambda: loaders[position][1]().tensor

    return [loader(position) for position in positions]


def _class_effects(concepts: Concepts, progress: ProgressCallback) -> Scores:
    """(K, classes): see `Concepts.effects`."""
    runner = concepts.source.tail.runner
    effects = np.zeros((len(concepts), runner.plan.score.classes))
    for number in sorted({number for numbers in concepts.best for number in numbers}):
        shown = [k for k in range(len(concepts)) if number in concepts.best[k]]
        maps, rows = concepts.maps(number)[shown], concepts.directions[shown]
        parts = maps[:, None] * rows[:, :, None, None]
        derivatives = class_derivatives(runner, concepts.tensors[number](), parts)
        for k, derivative in zip(shown, derivatives, strict=True):
            effects[k] += derivative / len(concepts.best[k])
        progress(1)
    return effects
