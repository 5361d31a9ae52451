"""Running the augmented model: what a formula asks for, for pictures and their targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxcam.arrays import Array, Floats, Images, Maps, Scores, cast_saturating
from onnxcam.errors import ModelError, RunError
from onnxcam.methods import Recipe
from onnxcam.methods.samplers.gaussian import GaussianNoise, standard_deviation
from onnxcam.runtime.chunks import ChunkedRunner, Feed
from onnxcam.runtime.session import FeedValue, Session
from onnxcam.specs import POWERS, SEED, Plan, moment
from onnxcam.targets.classes import Target

if TYPE_CHECKING:  # what comes from the cache is run without onnx
    from onnxcam.arrays import Dim

STEP = float(np.finfo(np.float32).eps)
NEAR = 2.0**-20  # part of an image's range, eight steps of float32
FEW_LEVELS = 0.15  # of integers: one value in a thousand is rounded to the next
ProgressCallback = Callable[[int], None]  # told how many inputs of the model were run


def no_progress(count: int) -> None:
    """Progress that nobody watches."""


@dataclass
class Runner:
    """One plan on one session; `backward` runs the gradients that have a model of their own."""

    plan: Plan
    batches: ChunkedRunner
    backward: Session | None
    recipe: Recipe
    settings: Mapping[str, Any]
    _known: dict[tuple[bytes, tuple[int, ...], bytes], list[Maps]] = field(default_factory=dict)
    _deviates: GaussianNoise | None = None
    step: float = STEP  # the machine epsilon of the coarsest dtype of a layer

    @property
    def constant(self) -> bool:
        """Whether one pass gives what n would: the gradient provably does not depend on the picture,
        and nothing else that is asked for differs between the samples.
        """
        settings = self.settings
        plain = settings.get("score", "logit") == "logit"
        return (
            self.plan.gradient_is_constant
            and plain
            and settings.get("activation", "clean") == "clean"
        )

    def forward(self, images: Images, target: Target | None = None) -> tuple[Scores, list[Maps]]:
        """The class scores (N, classes) and each layer's values (N, C, h, w), in float64. Of one picture whose
        target is known before its scores are, the gradients are taken in the same pass.
        """
        outputs, weights = [self.plan.explained_tensor, *self.plan.activations], None
        if target is not None and self._takes(images, target):
            outputs, weights = [*outputs, *self.plan.gradients], target.weights[None]
        blank = np.zeros((len(images), self.plan.score.classes))
        found, *maps = self._gathered(outputs, images, blank if weights is None else weights)
        activations, gradients = maps[: len(self.plan.layers)], maps[len(self.plan.layers) :]
        self.step = max(STEP, *(_step(array) for array in activations))
        if target is not None and gradients:
            self._keep(images, target, gradients)
        scores = np.asarray(found, np.float64).reshape(len(images), -1)
        if not np.isfinite(scores).all():
            raise RunError(
                f"{self.plan.name}: the scores are not finite (NaN or infinite); "
                "check the model's weights and the preprocessing"
            )
        return scores, [self._channels_first(i, each, images) for i, each in enumerate(activations)]

    def collect(
        self,
        image: Images,
        activations: list[Maps],
        target: Target,
        progress: ProgressCallback = no_progress,
    ) -> list[dict[str, Floats]]:
        """For each layer what the formula asks for, by name; image (1, ...), activations (1, C, h, w)."""
        if "class_weight" in self.recipe.probes:
            progress(1)
            weights = self._class_weights(image, target)
            found = [{"class_weight": each} for each in weights]
        elif self.recipe.sampler.name == "once":
            found = [{"gradient": each} for each in self._gradients(image, target)]
            progress(1)
        else:
            found, activations = self._moments(image, activations, target, progress)
        return [{"activation": a, **each} for a, each in zip(activations, found, strict=True)]

    def _takes(self, image: Images, target: Target) -> bool:
        """Whether the model's gradients at the picture itself are asked for, and not known yet."""
        once = self.recipe.sampler.name == "once" or self.plan.gradient_is_constant
        return (
            once
            and not self.plan.has_gradient_model
            and self._key(image, target) not in self._known
        )

    def _key(self, image: Images, target: Target) -> tuple[bytes, tuple[int, ...], bytes]:
        """What gradients depend on; constant ones on the sizes of the picture only, of models that take any."""
        content = b"" if self.plan.gradient_is_constant else image.tobytes()
        return target.weights.tobytes(), image.shape, content

    def _keep(self, image: Images, target: Target, gradients: list[Array]) -> list[Maps]:
        found = [self._channels_first(i, each, image) for i, each in enumerate(gradients)]
        self._known = {self._key(image, target): found}
        return found

    def _gradients(self, image: Images, target: Target) -> list[Maps]:
        if (known := self._known.get(self._key(image, target))) is not None:
            return known
        if self.backward is None:
            found = self._gathered(self.plan.gradients, image, target.weights[None])
        else:
            feeds = {SEED: self.plan.seeds(target.weights[None])}
            found = self.backward.run(self.plan.gradients, feeds)
        return self._keep(image, target, found)

    def gradients_near(self, image: Images, target: Target, factor: float) -> list[Maps]:
        """Each layer's gradient (1, C, h, w) close to the image, for `factor` times the target, divided by
        `factor`: nearly the same, unless it is only rounding errors.
        """
        weights = factor * target.weights[None]
        if self.backward is not None:
            arrays = self.backward.run(self.plan.gradients, {SEED: self.plan.seeds(weights)})
        else:
            summed = self.recipe.smooths and not self.plan.gradient_is_constant
            layers = self.plan.activations
            names = [moment(1, name) for name in layers] if summed else self.plan.gradients
            arrays = self._gathered(names, _close_to(image, factor), weights)
        maps = [self._channels_first(i, array, image) for i, array in enumerate(arrays)]
        return [gradient / factor for gradient in maps]

    def _class_weights(self, image: Images, target: Target) -> list[Floats]:
        """(1, C): the gradient summed over the cells, which is the linear layer's row behind global
        average pooling. ModelError, with the reason, for another head.
        """
        gradients = self._gradients(image, target)
        for layer, g in zip(self.plan.layers, gradients, strict=True):
            same = np.allclose(g, g[:, :, :1, :1], rtol=1e-4, atol=1e-6 * float(np.abs(g).max()))
            if not self.plan.gradient_is_constant or not same:
                why = (
                    "differs from cell to cell"
                    if self.plan.gradient_is_constant
                    else "depends on the picture"
                )
                raise ModelError(
                    f"cam needs global average pooling and one linear layer behind {layer.name!r}, but "
                    f"the score's gradient there {why}; use grad-cam, or another layer"
                )
        return [np.sum(each, axis=(2, 3)) for each in gradients]

    def _moments(
        self, image: Images, activations: list[Maps], target: Target, progress: ProgressCallback
    ) -> tuple[list[dict[str, Floats]], list[Maps]]:
        """D_1 to D_3 of each layer over the noisy samples, and the activations: as they are, or their mean.

        A gradient follows its cotangent: a constant one of a sample is that at 1 times the sample's weight.
        """
        weights, mean = self._weights(image, target), self.settings["activation"] == "mean"
        outputs = [*self.plan.activations] if mean else []
        if not self.plan.gradient_is_constant:
            outputs += [moment(power, each) for power in POWERS for each in self.plan.activations]
        means, count = self._means(outputs, image, target, weights, progress), len(activations)
        if mean:
            activations, means = means[:count], means[count:]
        if self.plan.gradient_is_constant:
            layers = [mean_powers(each, weights) for each in self._gradients(image, target)]
        else:
            layers = [means[layer::count] for layer in range(count)]
        named = [f"d{power}" for power in POWERS]
        return [dict(zip(named, each, strict=True)) for each in layers], activations

    def _means(
        self,
        outputs: list[str],
        image: Images,
        target: Target,
        weights: Floats,
        progress: ProgressCallback,
    ) -> list[Maps]:
        """The mean of each output, which belong to the layers in turn, over the noisy samples."""
        if not outputs:
            progress(len(weights))
            return []
        sums: list[Any] = [None] * len(outputs)
        runs = self.batches.run(outputs, len(weights), self._noisy(image, target, weights))
        for part, found in runs:
            added = (np.sum(e, axis=0, keepdims=True, dtype=np.float64) for e in found)
            pairs = zip(sums, added, strict=True)
            sums = [
                each if total is None else np.add(total, each, out=total) for total, each in pairs
            ]
            progress(part.stop - part.start)
        means, layers = (each / len(weights) for each in sums), len(self.plan.layers)
        return [self._channels_first(i % layers, each, image) for i, each in enumerate(means)]

    def _weights(self, image: Images, target: Target) -> Floats:
        """(n,): how much each sample counts, 1 or exp(S_s - max S); a gradient follows its cotangent."""
        samples = int(self.settings["samples"])
        if self.settings["score"] != "exp":
            return np.ones(samples)
        feed = self._noisy(image, target, np.zeros(samples))
        runs = self.batches.run([self.plan.explained_tensor], samples, feed)
        scores = np.concatenate([np.asarray(each[0], np.float64) for _, each in runs])
        own = target.score(scores.reshape(samples, -1))
        return np.exp(own - own.max())

    def _noisy(self, image: Images, target: Target, weights: Floats) -> Feed:
        """What is fed of noisy copies of a picture, whose cotangents are the target's times `weights` (n,)."""
        spread = standard_deviation(image, self.settings["noise"], self.settings["sigma"])
        deviates = self._deviates_of(image.shape[1:])

        def feed(part: slice) -> Mapping[str, FeedValue]:
            seeds = target.weights * weights[part, None]
            return self._fed(image, seeds, deviates[part] if spread else None, spread)

        return feed

    def _deviates_of(self, shape: tuple[int, ...]) -> GaussianNoise:
        deviates = self._deviates  # threads may have images of different sizes
        if deviates is None or deviates.shape != shape:
            free = self.batches.fixed_batch is None  # else what is short is filled up first
            place = self.batches.session.to_device if free else np.asarray
            deviates = self._deviates = GaussianNoise(int(self.settings["seed"]), shape, place)
        return deviates

    def _fed(
        self, images: Images, seeds: Floats, noise: FeedValue | None = None, spread: float = 0.0
    ) -> Mapping[str, FeedValue]:
        """What the model takes of pictures, noise, and cotangents (N, classes)."""
        feeds = self.plan.feeds(images, seeds, noise, spread)
        takes = self.batches.session.inputs
        return {name: array for name, array in feeds.items() if name in takes}

    def _gathered(self, outputs: Sequence[str], images: Images, seeds: Floats) -> list[Array]:
        def feed(part: slice) -> Mapping[str, FeedValue]:
            return self._fed(images[part], seeds[part])

        parts = [found for _, found in self.batches.run(outputs, len(images), feed)]
        return [np.concatenate(each) for each in zip(*parts, strict=True)]

    def _channels_first(self, layer: int, maps: Array, images: Images) -> Maps:
        """(N, C, h, w) in float64; of tokens those that are cells."""
        chosen = self.plan.layers[layer]
        found = np.moveaxis(np.asarray(maps, np.float64), chosen.channel_axis, 1)
        if chosen.cells is None:
            return found
        cells = found[:, :, chosen.tokens_before : found.shape[2] - chosen.tokens_after]
        height, width = self.plan.image.size_of(images)
        shape = infer_grid(chosen.cells, cells.shape[2], height / width)
        return cells.reshape(*cells.shape[:2], *shape)


def _close_to(image: Images, factor: float) -> Any:
    """The image with noise, different for each factor, that changes only how values are rounded. Noise of 1/256
    of its range, or even 2**-16, would flip enough ReLUs of a deep model, or change a probability of 1e-20 so
    much, that maps which are evidence differ.
    """
    draw = np.random.Generator(np.random.SFC64(int(1000 * factor)))
    values = image.astype(np.float64)
    span = float(values.max() - values.min()) or 1.0
    spread = span * max(NEAR, _step(image)) if image.dtype.kind == "f" else FEW_LEVELS
    return cast_saturating(values + spread * draw.standard_normal(image.shape), image.dtype)


def _step(array: Any) -> float:
    return float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0


def mean_powers(gradient: Maps, weights: Floats) -> list[Maps]:
    """The means of the powers of a gradient times each of the weights."""
    powers = accumulate([gradient] * len(POWERS), np.multiply)
    shares = [float(np.mean(weights**power)) for power in POWERS]
    return [g if part == 1 else part * g for part, g in zip(shares, powers, strict=True)]


def infer_grid(grid: tuple[Dim, Dim], count: int, proportion: float) -> tuple[int, int]:
    """Height and width of a grid of `count` cells: as the graph tells, and where its sizes are free, the
    whole numbers nearest to the picture's height / width.
    """
    height, width = grid
    if isinstance(height, int):
        return height, count // height
    if isinstance(width, int):
        return count // width, width
    fitting = [each for each in range(1, count + 1) if count % each == 0]
    best = min(fitting, key=lambda each: abs(np.log(each * each / count / proportion)))
    return best, count // best
