"""Run a compiled model to compute the quantities that a formula needs, for an image and a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np

from onnxcam.arrays import Array, Floats, Images, Maps, Quantities, Scores, cast_saturating
from onnxcam.errors import ModelError, RunError
from onnxcam.methods import Method
from onnxcam.methods.samplers.gaussian import GaussianNoise, standard_deviation
from onnxcam.runtime.chunks import ChunkedRunner, Feed
from onnxcam.runtime.session import FeedValue, Session
from onnxcam.specs import POWERS, SEED, Plan, moment
from onnxcam.targets.target import Target

EPSILON = float(np.finfo(np.float32).eps)
NEAR = 2.0**-20  # part of an image's range, eight steps of float32
FEW_LEVELS = 0.15  # for integers: one value in a thousand is rounded to the next
ProgressCallback = Callable[
    [int], None
]  # gets the number of inputs that were run since the last call


def no_progress(count: int) -> None:
    """The default callback: does nothing."""


@dataclass
class Runner:
    """Runs one plan for one method. `backward` runs the gradients if they have a model of their own."""

    plan: Plan
    batches: ChunkedRunner
    backward: Session | None
    method: Method
    settings: Mapping[str, Any]
    _gradient_cache: dict[tuple[bytes, tuple[int, ...], bytes], list[Maps]] = field(
        default_factory=dict
    )
    _noise: GaussianNoise | None = None
    epsilon: float = EPSILON  # machine epsilon of the coarsest dtype of a layer

    @property
    def one_pass_is_enough(self) -> bool:
        """Whether one pass gives the result of n: the gradient provably does not depend on the image, and
        nothing else that is computed differs between the samples.
        """
        return (
            self.plan.gradient_is_constant
            and self.settings.get("score", "logit") == "logit"
            and self.settings.get("activation", "clean") == "clean"
        )

    def forward(self, images: Images, target: Target | None = None) -> tuple[Scores, list[Maps]]:
        """The class scores (N, classes) and each layer's values (N, C, h, w), in float64. If the target of a
        single image is known before its scores are, the gradients are computed in the same pass.
        """
        outputs, weights = [self.plan.explained_tensor, *self.plan.activations], None
        if target is not None and self._fits_one_pass(images, target):
            outputs, weights = [*outputs, *self.plan.gradients], target.weights[None]
        zeros = np.zeros((len(images), self.plan.score.classes))
        raw, *maps = self._run_all(outputs, images, zeros if weights is None else weights)
        activations, gradients = maps[: len(self.plan.layers)], maps[len(self.plan.layers) :]
        self.epsilon = max(EPSILON, *(_epsilon(array) for array in activations))
        if target is not None and gradients:
            self._store_gradients(images, target, gradients)
        scores = np.asarray(raw, np.float64).reshape(len(images), -1)
        if not np.isfinite(scores).all():
            raise RunError(
                f"{self.plan.name}: the scores are not finite (NaN or infinite); "
                "check the model's weights and the preprocessing"
            )
        return scores, self._channels_first(activations, images)

    def collect(
        self,
        image: Images,
        activations: list[Maps],
        target: Target,
        progress: ProgressCallback = no_progress,
    ) -> list[Quantities]:
        """For each layer the quantities that the formula takes; image (1, ...), activations (1, C, h, w)."""
        quantities: list[Quantities]
        if "class_weight" in self.method.quantities:
            progress(1)
            quantities = [{"class_weight": weight} for weight in self._class_weights(image, target)]
        elif self.method.sampler.name == "once":
            quantities = [{"gradient": gradient} for gradient in self._gradients(image, target)]
            progress(1)
        else:
            quantities, activations = self._sample_means(image, activations, target, progress)
        return [
            {"activation": activation, **values}
            for activation, values in zip(activations, quantities, strict=True)
        ]

    def _fits_one_pass(self, image: Images, target: Target) -> bool:
        """Whether the gradients at the clean image are needed, from this model, and not cached yet."""
        needs_clean_gradient = self.method.sampler.name == "once" or self.plan.gradient_is_constant
        return (
            needs_clean_gradient
            and not self.plan.has_gradient_model
            and self._gradient_key(image, target) not in self._gradient_cache
        )

    def _gradient_key(self, image: Images, target: Target) -> tuple[bytes, tuple[int, ...], bytes]:
        """What gradients depend on. Constant ones depend only on the size of the image, in models that take any
        size.
        """
        content = b"" if self.plan.gradient_is_constant else image.tobytes()
        return target.weights.tobytes(), image.shape, content

    def _store_gradients(
        self, image: Images, target: Target, gradients: Sequence[Array]
    ) -> list[Maps]:
        maps = self._channels_first(gradients, image)
        self._gradient_cache = {self._gradient_key(image, target): maps}
        return maps

    def _gradients(self, image: Images, target: Target) -> list[Maps]:
        cached = self._gradient_cache.get(self._gradient_key(image, target))
        if cached is not None:
            return cached
        if self.backward is None:
            gradients = self._run_all(self.plan.gradients, image, target.weights[None])
        else:
            feeds = {SEED: self.plan.seeds(target.weights[None])}
            gradients = self.backward.run(self.plan.gradients, feeds)
        return self._store_gradients(image, target, gradients)

    def gradients_near(self, image: Images, target: Target, factor: float) -> list[Maps]:
        """Each layer's gradient (1, C, h, w) close to the image, for `factor` times the target, divided by
        `factor`. It is nearly the same as at the image, unless it is only rounding errors.
        """
        weights = factor * target.weights[None]
        if self.backward is not None:
            arrays = self.backward.run(self.plan.gradients, {SEED: self.plan.seeds(weights)})
        else:
            is_summed = self.method.smooths and not self.plan.gradient_is_constant
            layers = self.plan.activations
            names = [moment(1, name) for name in layers] if is_summed else self.plan.gradients
            arrays = self._run_all(names, _nearby_image(image, factor), weights)
        return [gradient / factor for gradient in self._channels_first(arrays, image)]

    def _class_weights(self, image: Images, target: Target) -> list[Floats]:
        """(1, C): the gradient summed over the cells, which is the linear layer's row after global average
        pooling. ModelError, with the reason, for another head.
        """
        gradients = self._gradients(image, target)
        for layer, g in zip(self.plan.layers, gradients, strict=True):
            is_uniform = np.allclose(
                g, g[:, :, :1, :1], rtol=1e-4, atol=1e-6 * float(np.abs(g).max())
            )
            if not self.plan.gradient_is_constant or not is_uniform:
                reason = (
                    "differs from cell to cell"
                    if self.plan.gradient_is_constant
                    else "depends on the image"
                )
                raise ModelError(
                    f"cam needs global average pooling and a single linear layer after {layer.name!r}, "
                    f"but the score's gradient there {reason}; use grad-cam, or choose another layer"
                )
        return [np.sum(gradient, axis=(2, 3)) for gradient in gradients]

    def _sample_means(
        self, image: Images, activations: list[Maps], target: Target, progress: ProgressCallback
    ) -> tuple[list[Quantities], list[Maps]]:
        """D_1 to D_3 of each layer over the noisy samples, and the activations: the clean ones, or their mean.

        A gradient is linear in its cotangent: if it is constant, a sample's gradient is the gradient for weight
        1 times the sample's weight.
        """
        weights, mean = self._sample_weights(image, target), self.settings["activation"] == "mean"
        outputs = [*self.plan.activations] if mean else []
        if not self.plan.gradient_is_constant:
            outputs += [moment(power, name) for power in POWERS for name in self.plan.activations]
        means = self._mean_outputs(outputs, image, target, weights, progress)
        count = len(activations)
        if mean:
            activations, means = means[:count], means[count:]
        if self.plan.gradient_is_constant:
            gradients = self._gradients(image, target)
            layers = [mean_powers(gradient, weights) for gradient in gradients]
        else:
            layers = [means[layer::count] for layer in range(count)]
        names = [f"d{power}" for power in POWERS]
        return [dict(zip(names, moments, strict=True)) for moments in layers], activations

    def _mean_outputs(
        self,
        outputs: list[str],
        image: Images,
        target: Target,
        weights: Floats,
        progress: ProgressCallback,
    ) -> list[Maps]:
        """The mean of each output over the noisy samples. `outputs` cycle through the layers."""
        if not outputs:
            progress(len(weights))
            return []
        totals: list[Any] = [None] * len(outputs)
        runs = self.batches.run(outputs, len(weights), self._noisy_feed(image, target, weights))
        for chunk, arrays in runs:
            sums = (np.sum(array, axis=0, keepdims=True, dtype=np.float64) for array in arrays)
            totals = [
                chunk_sum if total is None else np.add(total, chunk_sum, out=total)
                for total, chunk_sum in zip(totals, sums, strict=True)
            ]
            progress(chunk.stop - chunk.start)
        return self._channels_first([total / len(weights) for total in totals], image)

    def _sample_weights(self, image: Images, target: Target) -> Floats:
        """(n,): how much each sample counts, 1 or exp(S_s - max S). It multiplies the sample's cotangent."""
        samples = int(self.settings["samples"])
        if self.settings["score"] != "exp":
            return np.ones(samples)
        feed = self._noisy_feed(image, target, np.zeros(samples))
        runs = self.batches.run([self.plan.explained_tensor], samples, feed)
        scores = np.concatenate([np.asarray(arrays[0], np.float64) for _, arrays in runs])
        target_scores = target.score(scores.reshape(samples, -1))
        return np.exp(target_scores - target_scores.max())

    def _noisy_feed(self, image: Images, target: Target, weights: Floats) -> Feed:
        """The inputs for noisy copies of an image, whose cotangents are the target's times `weights` (n,)."""
        spread = standard_deviation(image, self.settings["noise"], self.settings["sigma"])
        noise = self._noise_for(image.shape[1:])

        def feed(chunk: slice) -> Mapping[str, FeedValue]:
            seeds = target.weights * weights[chunk, None]
            return self._feeds(image, seeds, noise[chunk] if spread else None, spread)

        return feed

    def _noise_for(self, shape: tuple[int, ...]) -> GaussianNoise:
        noise = self._noise  # threads may have images of different sizes
        if noise is None or noise.shape != shape:
            is_free = self.batches.fixed_batch is None  # a fixed batch is filled up first
            transfer = self.batches.session.to_device if is_free else np.asarray
            noise = self._noise = GaussianNoise(int(self.settings["seed"]), shape, transfer)
        return noise

    def _feeds(
        self, images: Images, seeds: Floats, noise: FeedValue | None = None, spread: float = 0.0
    ) -> Mapping[str, FeedValue]:
        """The inputs of the model: images, noise, and cotangents (N, classes)."""
        feeds = self.plan.feeds(images, seeds, noise, spread)
        inputs = self.batches.session.inputs
        return {name: array for name, array in feeds.items() if name in inputs}

    def _run_all(self, outputs: Sequence[str], images: Images, seeds: Floats) -> list[Array]:
        """The outputs for all images, in chunks."""

        def feed(chunk: slice) -> Mapping[str, FeedValue]:
            return self._feeds(images[chunk], seeds[chunk])

        chunks = [arrays for _, arrays in self.batches.run(outputs, len(images), feed)]
        return [np.concatenate(arrays) for arrays in zip(*chunks, strict=True)]

    def _channels_first(self, arrays: Sequence[Array], images: Images) -> list[Maps]:
        """(N, C, h, w) in float64; `arrays` cycle through the layers."""
        height, width = self.plan.image.size_of(images)
        layers = self.plan.layers
        return [
            layers[i % len(layers)].channels_first(array, height / width)
            for i, array in enumerate(arrays)
        ]


def _nearby_image(image: Images, factor: float) -> Any:
    """The image with noise, different for each factor, that changes only how values are rounded. Noise of 1/256
    of its range, or even 2**-16, would flip enough ReLUs of a deep model, or change a probability of 1e-20 so
    much, that maps with evidence differ.
    """
    draw = np.random.Generator(np.random.SFC64(int(1000 * factor)))
    values = image.astype(np.float64)
    span = float(values.max() - values.min()) or 1.0
    spread = span * max(NEAR, _epsilon(image)) if image.dtype.kind == "f" else FEW_LEVELS
    return cast_saturating(values + spread * draw.standard_normal(image.shape), image.dtype)


def _epsilon(array: Any) -> float:
    return float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0


def mean_powers(gradient: Maps, weights: Floats) -> list[Maps]:
    """The means of the powers of a gradient times each of the weights."""
    powers = accumulate([gradient] * len(POWERS), np.multiply)
    factors = [float(np.mean(weights**power)) for power in POWERS]
    return [g if factor == 1 else factor * g for factor, g in zip(factors, powers, strict=True)]
