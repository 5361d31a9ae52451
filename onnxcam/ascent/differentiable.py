"""A tensor of a model and the gradient of its weighted sum at the image, for many images at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from onnxcam.arrays import Array, Floats, Images
from onnxcam.ascent.opened_model import OpenedModel
from onnxcam.errors import BlockedError, MissingRuleError, ModelError, RunError
from onnxcam.model.model import Model
from onnxcam.rewrite.constant_gradient import prune_outputs
from onnxcam.rewrite.float_image import with_float_image
from onnxcam.rewrite.gradient import gradient
from onnxcam.rewrite.straight_through import straight_through_notices
from onnxcam.runtime.batch_independence import are_close, contrasting_images, tolerance_of
from onnxcam.runtime.chunks import CHUNK, ChunkedRunner
from onnxcam.runtime.session import Session, open_session
from onnxcam.specs import SEED, gradient_at

MIXES = "images are run one by one, because images that are run together influence each other"
DECONVOLVED = "deconvnet"  # a table of gradient rules
NO_INPUTS: Mapping[str, Array] = MappingProxyType({})


@dataclass(frozen=True)
class Differentiable:
    """The tensor `name` (N, …) of a model, which is run in float32 where it takes an image of integers."""

    runner: ChunkedRunner
    opened: OpenedModel
    model: Model
    name: str
    notices: tuple[str, ...] = ()

    @cached_property
    def deconvolved(self) -> Differentiable | None:
        """The same tensor, whose gradients pass rectifiers that are off (Zeiler and Fergus 2014); None if an
        operator has no such gradient.
        """
        try:
            runner = _open_runner(self.opened, self.model, self.name, DECONVOLVED)
        except ModelError:
            return None
        return replace(self, runner=replace(runner, fixed_batch=self.runner.fixed_batch))

    def values(self, images: Images, inputs: Mapping[str, Array] = NO_INPUTS) -> Array:
        """(N, …): the tensor, for images (N, …), and one row for each of them of other inputs: zeros for those
        that are missing.
        """
        return self.tensor(self.name, images, inputs)

    def tensor(self, name: str, images: Images, inputs: Mapping[str, Array] = NO_INPUTS) -> Array:
        """(N, …): the tensor `name`, which is an output."""
        return self._run([name], images, inputs)[0]

    def gradients(
        self, images: Images, seeds: Array, inputs: Mapping[str, Array] = NO_INPUTS
    ) -> tuple[Array, Floats]:
        """The tensor, and the gradient at the images of its sum with the weights `seeds` (N, …).
        RunError if they are not finite.
        """
        dtype: Any = self.runner.session.dtypes[SEED]
        sizes = self.runner.session.shapes[SEED][1:]
        if all(isinstance(size, int) for size in sizes):
            seeds = seeds.reshape(len(images), *sizes)  # scores of classes may have more axes
        outputs = [self.name, gradient_at(self.opened.image.name)]
        values, slopes = self._run(outputs, images, {**inputs, SEED: seeds.astype(dtype)})
        if not (np.isfinite(values).all() and np.isfinite(slopes).all()):
            raise RunError(
                f"{self.opened.model.name}: values or gradients of {self.name} are not finite (NaN or "
                "infinite); choose another layer, or check the model's weights"
            )
        return values, np.asarray(slopes, np.float64)

    def _run(self, outputs: list[str], images: Images, inputs: Mapping[str, Array]) -> list[Array]:
        """Outputs for images and other inputs. Those that are missing get zeros."""
        session, image = self.runner.session, self.opened.image.name
        missing = session.inputs - {image, *inputs}
        inputs = {**inputs, **{name: _zeros(session, name, len(images)) for name in missing}}

        def feed(chunk: slice) -> dict[str, Array]:
            rows = {name: array[chunk] for name, array in inputs.items()}
            return {image: images[chunk], **rows}

        chunks = [arrays for _, arrays in self.runner.run(outputs, len(images), feed)]
        arrays = [np.concatenate(parts) for parts in zip(*chunks, strict=True)]
        if any(len(array) != len(images) for array in arrays):
            raise ModelError(
                f"{self.opened.model.name}: {self.name!r} has no batch axis in front, so its values cannot be "
                "told apart by image; choose another layer"
            )
        return arrays


def _zeros(session: Session, name: str, count: int) -> Array:
    """Zeros for an input, with sizes of 1 where any is taken."""
    sizes = [size if isinstance(size, int) else 1 for size in session.shapes[name][1:]]
    return np.zeros((count, *sizes), session.dtypes[name])


def differentiable(
    opened: OpenedModel, model: Model, name: str, outputs: Sequence[str] = ()
) -> Differentiable:
    """The tensor `name` of a model, which is the opened one or one that was made of it. `outputs` are
    returned, too.

    ModelError if its gradient does not reach the image.
    """
    try:
        runner = _open_runner(opened, model, name, "default", outputs)
    except (BlockedError, MissingRuleError) as error:
        raise error.with_hint("choose a layer before it with --layer (`onnxcam layers`)") from error
    about_signs = straight_through_notices(model.graph, [opened.image.name], name)
    notices = (*runner.session.notices, *dict.fromkeys(notice for _, notice in about_signs))
    tensor = Differentiable(runner, opened, model, name, notices)
    if opened.image.batch == 1 or _is_independent(tensor):
        return tensor
    if opened.image.batch is not None:
        raise ModelError(
            f"{opened.model.name}: takes {opened.image.batch} images at a time, and the gradient for one "
            "depends on the others; export it with a batch size of 1"
        )
    single = replace(runner, fixed_batch=1)
    return replace(tensor, runner=single, notices=(*tensor.notices, MIXES))


def _open_runner(
    opened: OpenedModel, model: Model, name: str, rules: str, outputs: Sequence[str] = ()
) -> ChunkedRunner:
    """Runs of a model that returns the tensor, its gradient at the image by a table of rules, and `outputs`."""
    image = opened.image.name
    augmented = gradient(with_float_image(model, opened.image), [image], name, rules)
    prune_outputs(augmented, [name, gradient_at(image), *outputs])
    content, weights = augmented.content_and_weights()
    session = open_session(content, opened.device, weights)
    zeros = frozenset({SEED})
    return ChunkedRunner(
        session, opened.image.batch, opened.chunk or CHUNK, zero_padded_inputs=zeros
    )


def _is_independent(tensor: Differentiable) -> bool:
    """Whether two images have the same values and gradients together as alone."""
    opened = tensor.opened
    height, width = opened.size
    channels = opened.range.channels
    shape = (
        (channels, height, width) if opened.image.layout == "NCHW" else (height, width, channels)
    )
    pair = contrasting_images(shape, opened.image.dtype).astype(opened.range.tensor_dtype)
    try:
        seeds = np.ones((2, *tensor.values(pair).shape[1:]))
        together = tensor.gradients(pair, seeds)
        alone = [tensor.gradients(pair[n : n + 1], seeds[:1]) for n in range(2)]
    except (ModelError, RunError):
        return False
    tolerance = tolerance_of([together[0]])
    return all(
        are_close(both[n : n + 1], single, tolerance, 1e-12)
        for n in range(2)
        for both, single in zip(together, alone[n], strict=True)
    )
