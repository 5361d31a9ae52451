"""Whether images can be run together: tried with two, on the scores, layers, and gradients of the final model.

Attention over axis 0, statistics of a batch, or a Reshape to one image make that wrong. The trial costs five
passes of one image when the plan is made, or four runs of a model that takes exactly N images at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from onnxcam.arrays import Array, Floats
from onnxcam.errors import ModelError, OutOfMemoryError, RunError
from onnxcam.runtime.batch_independence import agree, root_mean_square, tolerance_of, unlike_images
from onnxcam.runtime.device import device
from onnxcam.runtime.session import Session
from onnxcam.specs import POWERS, SEED, ImageInput, Plan, gradient_at, moment

SIDES, CHANNELS = (224, 32, 512, 28), (3, 1)  # tried in turn if the model takes any
# Of a free batch the middle image has others on both sides; a fixed one may have room for two.
ORDERS = {False: ((1, 0, 0),), True: ((0, 1), (1, 0))}
STRONGEST = 16.0  # factor between the cotangents of two images
FLOOR = 1e-7  # the part of a result that is rounding error

MIXES = (
    "in this model, images that are run together influence each other, or it takes only one at a time, so each "
    "is run by itself, which is slower; to run several, export it in evaluation mode with a free batch"
)
UNTRIED = (
    "a trial run with two images failed, so each is run by itself, which is slower; `chunk` does not change "
    "that"
)


class Runs(NamedTuple):
    """The outputs by name: of images together, in that order, and of each of the two alone, with copies of
    itself if the batch is fixed. `factors` multiplied the cotangents of the two images when run together.
    """

    together: Mapping[str, Any]
    order: tuple[int, ...]
    alone: tuple[Mapping[str, Any], Mapping[str, Any]]
    factors: tuple[float, float]


def confirm_batch(
    plan: Plan, content: bytes, weights: Mapping[str, Array], *, smooths: bool
) -> Plan:
    """The plan, with a batch of 1 and a notice if its images cannot be run together or influence each other.
    Nothing is tried if only one is ever run: with a batch of 1, or without smoothing.

    Raises ModelError for a model of exactly N > 1 images that influence each other, as none of them has a map
    of its own; OutOfMemoryError if the memory cannot hold several, so that nothing is known.
    """
    fixed = plan.image.batch
    if fixed == 1 or (fixed is None and not smooths):
        return plan
    try:
        session = Session(content, device("cpu"), weights)
    except ModelError:  # it may run elsewhere: some operators have kernels only for CUDA
        independent = None
    else:
        independent = _are_independent(plan, session, fixed)
    if independent:
        return plan
    if fixed is not None:
        if independent is None:
            return plan  # no trial image worked; a real image will show what is wrong
        raise ModelError(
            f"{plan.name}: takes exactly {fixed} images at a time, and the result for one depends on the "
            "others, so a single image has no map; export it with a batch of 1, or with a free batch"
        )
    return one_at_a_time(plan, UNTRIED if independent is None else MIXES)


def one_at_a_time(plan: Plan, notice: str = UNTRIED) -> Plan:
    """The plan with a batch of 1 instead of a free one; a plan with a fixed batch is returned as it is."""
    if plan.image.batch is not None:
        return plan
    return replace(plan, image=replace(plan.image, batch=1), notices=(*plan.notices, notice))


def _are_independent(plan: Plan, session: Session, fixed: int | None) -> bool | None:
    """Whether two images give the same results together as alone; None if no image could be run at all."""
    seeds = session.shapes.get(SEED, [None])[0]
    if isinstance(seeds, int) and seeds != fixed:
        return False  # one score for all
    draw = np.random.Generator(np.random.SFC64(1))
    weights = draw.standard_normal(plan.score.classes)
    for shape in _shapes(plan.image):
        pair = unlike_images(shape, plan.image.dtype)
        try:
            first, second = (
                _run(plan, session, image[None], weights[None], fixed or 1) for image in pair
            )
        except OutOfMemoryError:
            raise
        except RunError:
            continue
        if not all(
            np.isfinite(outputs[plan.explained_tensor]).any() for outputs in (first, second)
        ):
            continue
        factors = (1.0, _factor(plan, first, second))
        for order in ORDERS[fixed is not None]:
            places = list(order)
            seeds = np.outer(np.take(factors, places), weights)
            try:
                together = _run(plan, session, pair[places], seeds, fixed or len(order))
            except OutOfMemoryError:
                raise
            except RunError:
                return False
            if not _agrees(plan, Runs(together, order, (first, second), factors), fixed):
                return False
        return True
    return None


def _shapes(image: ImageInput) -> Iterator[tuple[int, ...]]:
    """Shapes of one image that the model may take."""
    free = not (image.height and image.width)
    for side in SIDES if free else SIDES[:1]:
        for channels in (image.channels,) if image.channels else CHANNELS:
            size = (image.height or side, image.width or side)
            yield (channels, *size) if image.layout == "NCHW" else (*size, channels)


def _run(plan: Plan, session: Session, images: Any, seeds: Floats, batch: int) -> dict[str, Any]:
    """All outputs. The batch is filled up with copies of the last image, with a cotangent of 0."""
    short = batch - len(images)
    images = np.concatenate([images, images[-1:].repeat(short, axis=0)])
    seeds = np.concatenate([seeds, np.zeros((short, *seeds.shape[1:]))])
    feeds = plan.feeds(images, seeds)
    taken = {name: array for name, array in feeds.items() if name in session.inputs}
    return dict(zip(session.outputs, session.run(session.outputs, taken), strict=True))


def _factor(plan: Plan, first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    """What makes the second image's gradients as large as the first's, so that neither hides in the sum."""
    names = [moment(1, layer.name) for layer in plan.layers]
    sizes = [
        (root_mean_square(first[name]), root_mean_square(second[name]))
        for name in names
        if name in first
    ]
    ratios = [a / b for a, b in sizes if 0 < a < np.inf and 0 < b < np.inf]
    return float(np.clip(min(ratios), 1 / STRONGEST, STRONGEST)) if ratios else 1.0


def _agrees(plan: Plan, runs: Runs, fixed: int | None) -> bool:
    first = runs.alone[0]
    tolerance = tolerance_of([first[name] for name in plan.activations])
    floors = {plan.explained_tensor: 0.0, **_floors(plan, first)}
    values = [plan.explained_tensor, *plan.activations]
    gradients = [name for name in plan.gradients if name in runs.together]
    return (
        all(
            len(runs.together[name]) == (fixed or len(runs.order)) for name in (*values, *gradients)
        )
        and all(len(first[name]) == (fixed or 1) for name in (*values, *gradients))
        and all(_rows_agree(runs, name, (1.0, 1.0), tolerance, floors[name]) for name in values)
        and all(_copies_agree(runs, name, tolerance, floors[name]) for name in values)
        and all(
            _rows_agree(runs, name, runs.factors, tolerance, floors[name]) for name in gradients
        )
        and all(
            _sums_agree(runs, layer.name, tolerance, floors[gradient_at(layer.name)])
            for layer in plan.layers
        )
    )


def _floors(plan: Plan, outputs: Mapping[str, Any]) -> dict[str, float]:
    """The size below which an output is only rounding errors: for layers a part of their values, for gradients
    a part of the score per value, since layers and scores may have any unit.
    """
    score = root_mean_square(outputs[plan.explained_tensor])
    sizes = {name: root_mean_square(outputs[name]) for name in plan.activations}
    layers = dict.fromkeys(plan.activations, FLOOR * max(sizes.values()))
    return layers | {
        gradient_at(name): FLOOR * score / size if size else 0.0 for name, size in sizes.items()
    }


def _rows_agree(
    runs: Runs, name: str, factors: tuple[float, float], tolerance: float, floor: float
) -> bool:
    """Whether each image has the same values next to any others."""
    return all(
        agree(actual, factors[image] * runs.alone[image][name][0], tolerance, floor)
        for actual, image in zip(runs.together[name], runs.order, strict=False)
    )


def _copies_agree(runs: Runs, name: str, tolerance: float, floor: float) -> bool:
    """Whether copies of one image get the same values at every position of a batch."""
    alone = runs.alone[0][name]
    return all(agree(copy, alone[0], tolerance, floor) for copy in alone[1:])


def _sums_agree(runs: Runs, layer: str, tolerance: float, floor: float) -> bool:
    """Whether the moments of images together are the sums of their own: gradients are linear in cotangents."""
    if moment(1, layer) not in runs.together:
        return True
    if max(root_mean_square(outputs[moment(1, layer)]) for outputs in runs.alone) <= floor:
        return True
    for power in POWERS:
        name = moment(power, layer)
        parts = [runs.factors[image] ** power * runs.alone[image][name] for image in runs.order]
        if not agree(runs.together[name], np.sum(parts, axis=0), power * tolerance):
            return False
    return True
