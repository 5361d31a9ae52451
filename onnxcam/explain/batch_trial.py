"""Test whether images can be run together: with two images, on the scores, layers and gradients of the final
model.

Attention over axis 0, batch statistics, or a Reshape to one image make a batch wrong. The test costs five
passes of one image when a model is planned, or four runs of a model that accepts exactly N images at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from onnxcam.arrays import Array, Floats
from onnxcam.dense import WHERE
from onnxcam.errors import ModelError, OutOfMemoryError, RunError
from onnxcam.methods import QUANTITIES
from onnxcam.runtime.batch_independence import (
    are_close,
    contrasting_images,
    root_mean_square,
    tolerance_of,
)
from onnxcam.runtime.device import find_device
from onnxcam.runtime.session import Session
from onnxcam.specs import REFERENCE, SEED, ImageInput, Output, Plan

SIDES, CHANNELS = (224, 32, 512, 28), (3, 1)  # tried in this order if the model takes any
# In a dynamic batch, the middle image has neighbors on both sides; a fixed batch may have room for only two.
ORDERS = {False: ((1, 0, 0),), True: ((0, 1), (1, 0))}
MAX_FACTOR = 16.0  # factor between the cotangents of two images
FLOOR = 1e-7  # rounding error, as a fraction of a result

MIXES = (
    "images are run one by one, which is slower, because the model accepts only one at a time, or because "
    "images that are run together influence each other; to run several at once, export the model in "
    "evaluation mode with a dynamic batch size"
)
UNTRIED = (
    "images are run one by one, which is slower, because a test run with two images failed; `chunk` does not "
    "change that"
)


class Runs(NamedTuple):
    """Outputs by name: of images run `together`, in this order, and of each of the two images `alone`, with
    copies of itself if the batch is fixed. `factors` multiplied the cotangents of the two images when run
    together.
    """

    together: Mapping[str, Any]
    order: tuple[int, ...]
    alone: tuple[Mapping[str, Any], Mapping[str, Any]]
    factors: tuple[float, float]


def confirm_batch(plan: Plan, content: bytes, weights: Mapping[str, Array]) -> Plan:
    """The plan, with a batch of 1 and a notice if images cannot be run together or influence each other.
    Nothing is tested if only one image is ever run, with a batch of 1.

    Raises ModelError for a model that accepts exactly N > 1 images that influence each other, since no image
    then has a map of its own; OutOfMemoryError if the memory cannot hold several images, so nothing is known.
    """
    fixed = plan.image.batch
    if fixed == 1:
        return plan
    try:
        session = Session(content, find_device("cpu"), weights)
    except ModelError:  # it may run elsewhere: some operators have kernels only for CUDA
        independent = None
    else:
        independent = _are_independent(plan, session, fixed)
    if independent:
        return plan
    if fixed is not None:
        if independent is None:
            return plan  # no test image worked; a real image will show what is wrong
        raise ModelError(
            f"{plan.name}: the model accepts exactly {fixed} images at a time, and the result for one depends "
            "on the others, so a single image has no map; export it with a batch size of 1 or a dynamic batch "
            "size"
        )
    return with_batch_of_one(plan, UNTRIED if independent is None else MIXES)


def with_batch_of_one(plan: Plan, notice: str = UNTRIED) -> Plan:
    """The plan with a batch of 1 instead of a free one; a plan with a fixed batch is returned as it is."""
    if plan.image.batch is not None:
        return plan
    return replace(plan, image=replace(plan.image, batch=1), notices=(*plan.notices, notice))


def _are_independent(plan: Plan, session: Session, fixed: int | None) -> bool | None:
    """Whether two images give the same results together as alone; None if no image could be run at all."""
    seeds = session.shapes.get(SEED, [None])[0]
    if isinstance(seeds, int) and seeds != fixed:
        return False  # one score for all images
    draw = np.random.Generator(np.random.SFC64(1))
    weights = draw.standard_normal(plan.score.classes)
    for shape in _shapes(plan.image):
        pair = contrasting_images(shape, np.dtype(plan.image_dtype))
        try:
            first, second = (
                _run_padded(plan, session, image[None], weights[None], fixed or 1) for image in pair
            )
        except OutOfMemoryError:
            raise
        except RunError:
            continue
        if not all(
            np.isfinite(outputs[plan.explained_tensor]).any() for outputs in (first, second)
        ):
            continue
        factors = (1.0, _cotangent_factor(plan, first, second))
        for order in ORDERS[fixed is not None]:
            indices = list(order)
            seeds = np.outer(np.take(factors, indices), weights)
            try:
                together = _run_padded(plan, session, pair[indices], seeds, fixed or len(order))
            except OutOfMemoryError:
                raise
            except RunError:
                return False
            if not _results_agree(plan, Runs(together, order, (first, second), factors), fixed):
                return False
        return True
    return None


def _shapes(image: ImageInput) -> Iterator[tuple[int, ...]]:
    """Shapes of one image that the model may take."""
    takes_any_size = not (image.height and image.width)
    for side in SIDES if takes_any_size else SIDES[:1]:
        for channels in (image.channels,) if image.channels else CHANNELS:
            size = (image.height or side, image.width or side)
            yield (channels, *size) if image.layout == "NCHW" else (*size, channels)


def _run_padded(
    plan: Plan, session: Session, images: Any, seeds: Floats, batch: int
) -> dict[str, Any]:
    """All outputs. The batch is filled up with copies of the last image, whose cotangents are 0."""
    missing = batch - len(images)
    images = np.concatenate([images, images[-1:].repeat(missing, axis=0)])
    seeds = np.concatenate([seeds, np.zeros((missing, *seeds.shape[1:]))])
    feeds = plan.feeds(images, seeds)
    feeds[REFERENCE] = images
    row = np.ones((batch, 1, 1, 1), np.float32)  # of what else a sampler feeds
    if WHERE in session.inputs:  # the mean over all positions
        feeds[WHERE] = np.ones(
            [batch, *(n if isinstance(n, int) else 1 for n in session.shapes[WHERE][1:])],
            np.float32,
        )
    inputs = {name: feeds.get(name, row) for name in session.inputs}
    return dict(zip(session.outputs, session.run(session.outputs, inputs), strict=True))


def _cotangent_factor(plan: Plan, first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    """The factor that makes the second image's gradients as large as the first's, so that neither vanishes in
    the sum.
    """
    names = [output.tensor for output in _outputs(plan, first) if _degree(output) == 1]
    sizes = [(root_mean_square(first[name]), root_mean_square(second[name])) for name in names]
    ratios = [a / b for a, b in sizes if 0 < a < np.inf and 0 < b < np.inf]
    return float(np.clip(min(ratios), 1 / MAX_FACTOR, MAX_FACTOR)) if ratios else 1.0


def _outputs(plan: Plan, tensors: Mapping[str, Any]) -> list[Output]:
    """What the model returns and is proportional to a power of the cotangent."""
    outputs = (output for program in plan.programs for output in program.outputs)
    return [
        output for output in outputs if output.tensor in tensors and _degree(output) is not None
    ]


def _degree(output: Output) -> int | None:
    return QUANTITIES[output.quantity].degree


def _results_agree(plan: Plan, runs: Runs, fixed: int | None) -> bool:
    first, outputs = runs.alone[0], _outputs(plan, runs.together)
    sums = [output for output in outputs if QUANTITIES[output.quantity].is_summed(fixed)]
    rows = [output for output in outputs if output not in sums]
    values = {plan.explained_tensor, *(row.tensor for row in rows if _degree(row) == 0)}
    tolerance = tolerance_of([first[name] for name in values])
    floors = _rounding_floors(plan, first, values)
    names = {*values, *(row.tensor for row in rows)}
    return (
        all(len(runs.together[name]) == (fixed or len(runs.order)) for name in names)
        and all(len(first[name]) == (fixed or 1) for name in names)
        and all(_rows_agree(runs, name, (1.0, 1.0), tolerance, floors[name]) for name in values)
        and all(_copies_agree(runs, name, tolerance, floors[name]) for name in values)
        and all(
            _rows_agree(runs, row.tensor, runs.factors, tolerance, _floor(plan, first, row))
            for row in rows
            if _degree(row) == 1
        )
        and all(
            _sums_agree(runs, output, tolerance, _floor(plan, first, output)) for output in sums
        )
    )


def _rounding_floors(
    plan: Plan, outputs: Mapping[str, Any], values: Collection[str]
) -> dict[str, float]:
    """The size below which values are only rounding errors: a fraction of the largest, since layers may have
    any unit; the score has none.
    """
    sizes = [root_mean_square(outputs[name]) for name in values if name != plan.explained_tensor]
    return dict.fromkeys(values, FLOOR * max(sizes, default=0.0)) | {plan.explained_tensor: 0.0}


def _floor(plan: Plan, outputs: Mapping[str, Any], output: Output) -> float:
    """The size below which a gradient is only rounding errors: a fraction of the score per value of the layer,
    to the power of the quantity.
    """
    layer = plan.layers[output.layer].name
    size = root_mean_square(outputs[layer]) if layer in outputs else 1.0
    score = root_mean_square(outputs[plan.explained_tensor])
    return (FLOOR * score / size if size else 0.0) ** (_degree(output) or 1)


def _rows_agree(
    runs: Runs, name: str, factors: tuple[float, float], tolerance: float, floor: float
) -> bool:
    """Whether each image has the same values alone and in the batch."""
    return all(
        are_close(actual, factors[image] * runs.alone[image][name][0], tolerance, floor)
        for actual, image in zip(runs.together[name], runs.order, strict=False)
    )


def _copies_agree(runs: Runs, name: str, tolerance: float, floor: float) -> bool:
    """Whether copies of one image have the same values at every position of a batch."""
    alone = runs.alone[0][name]
    return all(are_close(copy, alone[0], tolerance, floor) for copy in alone[1:])


def _sums_agree(runs: Runs, output: Output, tolerance: float, floor: float) -> bool:
    """Whether the sum over a batch is that of each image's: gradients are linear in cotangents."""
    name, power = output.tensor, _degree(output) or 0
    if max(root_mean_square(outputs[name]) for outputs in runs.alone) <= floor:
        return True
    terms = [runs.factors[image] ** power * runs.alone[image][name] for image in runs.order]
    return are_close(runs.together[name], np.sum(terms, axis=0), max(power, 1) * tolerance)
