"""In how many rounds the samples of an image are run, and the model for them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from onnxcam.arrays import FLOAT32, Dim
from onnxcam.embedding.batch import with_images, with_rows
from onnxcam.embedding.explained import Embedding
from onnxcam.embedding.rounds import ALONE, Rounds, divide, one_by_one
from onnxcam.errors import ModelError
from onnxcam.model.image_input import image_input
from onnxcam.model.model import Model
from onnxcam.specs import ImageInput, Plan

FREE = "batch"  # the name of a free size that has none


@dataclass(frozen=True)
class Choice:
    """The model for the rows of a round, how it is written, and what a user should know about it."""

    network: Model
    embedding: Embedding
    notices: tuple[str, ...] = ()


def choose_rounds(
    source: Model, plan: Plan, embedding: Embedding, batch: int | None, requested: int | None
) -> Choice:
    """The rounds for so many images, by default as many as the model takes. Several rows of an image are run
    together only if no output of the model depends on the other rows. ModelError if the model does not take so
    many images.
    """
    _require_rows(plan, embedding)
    batch_of_model = _batch_of(source)
    is_mixed = plan.image.batch == 1 and batch_of_model != 1  # images influence each other
    if is_mixed:
        _require_no_batch(source, batch)
    images: Dim = 1 if is_mixed else batch or batch_of_model
    rounds, notices = _divide(plan, embedding, requested), list[str]()
    network = None
    if rounds != ALONE and not is_mixed:
        number = images * rounds.size if isinstance(images, int) else None
        network = with_rows(source, number)
    if network is None:
        if rounds != ALONE and not is_mixed and not _sizes_are_known(source, batch_of_model):
            _require_no_batch(source, batch)
            images = 1
        only_batch = images if isinstance(images, int) else None
        network = with_images(
            source, None if embedding.request.varies == "activation" else only_batch
        )
        divided = rounds if rounds == ALONE else one_by_one(rounds.samples)
        notices = [
            *_describe(
                images != (batch or batch_of_model),
                divided.count if divided != rounds and requested else None,
            )
        ]
        rounds = divided
    if network is None:
        raise ModelError(
            f"{source.name}: takes {batch_of_model} images at once, not {images}; leave out the batch"
        )
    return Choice(network, replace(embedding, images=images, rounds=rounds), tuple(notices))


def _require_no_batch(source: Model, batch: int | None) -> None:
    if batch not in (None, 1):
        raise ModelError(
            f"{source.name}: takes 1 image at a time, because images that are run together influence each "
            f"other, or an output has no row for each of them; leave out the batch of {batch}, or choose 1"
        )


def _sizes_are_known(model: Model, images: Dim) -> bool:
    """Whether the outputs have no free sizes but that of the batch, which a Loop can start with."""
    return all(
        tensor.shape is not None
        and all(isinstance(size, int) or size == images for size in tensor.shape)
        for tensor in model.graph.outputs
    )


def _divide(plan: Plan, embedding: Embedding, requested: int | None) -> Rounds:
    has_samples = embedding.request.varies == "image" and not plan.one_sample_is_enough
    samples = embedding.drawing.trial() if has_samples else None
    if samples is None or (samples.offsets is None and samples.count == 1):
        return ALONE
    return divide(samples.count, _bytes_of(embedding.drawing.image), requested)


def _bytes_of(image: ImageInput) -> int:
    sizes = (size for size in image.shape if isinstance(size, int))
    return FLOAT32.itemsize * math.prod(sizes)  # of integers, too: what follows is in floats


def _describe(is_single: bool, rounds: int | None) -> Iterator[str]:
    if is_single:
        yield (
            "the file takes 1 image at a time, because images that are run together influence each other, or "
            "an output of the model has no row for each of them"
        )
    if rounds is not None:
        yield (
            f"the samples are run one by one, in {rounds} rounds of a Loop, because the model does not run "
            "them together, or an output of it depends on all of them"
        )


def _require_rows(plan: Plan, embedding: Embedding) -> None:
    """ModelError for samples of a layer's values in a model that does not run several images together."""
    if embedding.request.varies == "activation" and plan.image.batch is not None:
        raise ModelError(
            f"{plan.name}: {embedding.drawing.formula.method.name} runs all samples of a layer together, and "
            "this model runs images one by one; export it for any number of images"
        )


def _batch_of(model: Model) -> Dim:
    """The size of the batch of a model: a number, or the name of a free one."""
    name = image_input(model).name
    size = next(tensor.shape[0] for tensor in model.graph.inputs if tensor.name == name)
    return size if isinstance(size, (int, str)) else FREE
