"""Run the programs of a plan: the quantities of clean images, and of the samples that a sampler draws."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from onnxcam.arrays import Array, Floats, Images, Quantities, Scores
from onnxcam.dense import WHERE
from onnxcam.errors import RunError
from onnxcam.explain.chunk_results import collect, combine
from onnxcam.explain.clean_pass import CleanPass, SampleBase
from onnxcam.explain.nearby import nearby_image
from onnxcam.methods import QUANTITIES, Samples
from onnxcam.methods.quantities import SAMPLE_SCORES
from onnxcam.runtime.chunks import ChunkedRunner, Feed
from onnxcam.runtime.session import FeedValue
from onnxcam.specs import (
    HEAD,
    MODEL,
    OFFSET,
    RANK,
    SAMPLE_INPUT,
    SAMPLED,
    SCALE,
    SEED,
    Output,
    Plan,
    Program,
    sample_input,
)
from onnxcam.targets.target import Target

ProgressCallback = Callable[
    [int], None
]  # gets the number of inputs that were run since the last call

RunSamples = Callable[["Runner"], tuple[dict[Output, Array], Samples | None]]


def no_progress(count: int) -> None:
    """The default callback: does nothing."""


class Passes(Protocol):
    """The passes of a plan that several methods share, each of which takes a `part` of it; the last passes are
    remembered.
    """

    def clean(
        self,
        part: Runner,
        images: Images,
        weights: Floats,
        ranks: Array | None,
        where: Floats | None,
    ) -> CleanPass:
        """A clean pass with the outputs of the part."""

    def sampled(
        self, part: Runner, key: tuple[str, Images, Target], run: RunSamples
    ) -> tuple[dict[Output, Array], Samples | None]:
        """The quantities of the part for samples, and the samples; the `key` is what they depend on: a sampler
        with its settings, an image, and a target.
        """


@dataclass
class Runner:
    """Runs one plan. `runs` has a runner for each model of the plan. The passes are `shared` if the plan is a
    part of one that is run for several methods.
    """

    plan: Plan
    runs: Mapping[str, ChunkedRunner]
    shared: Passes | None = None
    _constants: dict[tuple[bytes, tuple[int, ...]], dict[Output, Array]] = field(
        default_factory=dict
    )

    @property
    def main(self) -> ChunkedRunner:
        """The runner of the first model."""
        return self.runs[MODEL]

    @property
    def is_tuned(self) -> bool:
        """Whether nothing is measured any more in the model that runs most of the inputs."""
        return self.runs.get(SAMPLED, self.main).is_tuned

    @property
    def ranks_classes(self) -> bool:
        """Whether the model itself finds the class of a rank."""
        return RANK in self.main.session.inputs

    @property
    def needs_target(self) -> bool:
        """Whether a clean pass returns different quantities for another target."""
        return any(QUANTITIES[output.quantity].needs_target for output in self.plan.clean.outputs)

    def clean(
        self,
        images: Images,
        weights: Floats,
        ranks: Array | None = None,
        where: Floats | None = None,
    ) -> CleanPass:
        """One pass for N images: their targets are the `weights` (N, classes) plus the classes of the `ranks`
        (N,), at the positions `where` (N, 1 or classes, positions) of a model with scores at positions.
        """
        if self.shared is not None:
            return self.shared.clean(self, images, weights, ranks, where)
        return self._clean(images, weights, ranks, where)

    def _clean(
        self,
        images: Images,
        weights: Floats,
        ranks: Array | None = None,
        where: Floats | None = None,
    ) -> CleanPass:
        plan = self.plan
        tensors = dict.fromkeys([plan.explained_tensor, *plan.clean.tensors, *plan.beside])

        def feed(chunk: slice) -> Mapping[str, FeedValue]:
            feeds = plan.feeds(
                images[chunk],
                weights[chunk],
                None if ranks is None else ranks[chunk],
                None if where is None else where[chunk],
            )
            return _only(feeds, self.main)

        chunks = [arrays for _, arrays in self.main.run([*tensors], len(images), feed)]
        joined = [
            arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
            for arrays in zip(*chunks, strict=True)
        ]
        results = dict(zip(tensors, joined, strict=True))
        arrays = {output: results[output.tensor] for output in plan.clean.outputs}
        scores = np.asarray(results[plan.explained_tensor], np.float64)
        beside = {name: results[name] for name in plan.beside}
        return CleanPass(images, scores.reshape(len(images), -1), arrays, beside)

    def require_finite_scores(self, scores: Scores) -> None:
        """RunError for scores that are NaN or infinite."""
        if not np.isfinite(scores).all():
            raise RunError(
                f"{self.plan.name}: the scores are not finite (NaN or infinite); "
                "check the model's weights and the preprocessing"
            )

    def constants(self, images: Images, targets: Sequence[Target]) -> dict[Output, Array]:
        """The clean quantities that depend only on the targets of the N images, and on their size in models
        that take any size. Those of the last target are kept.
        """
        program = self.plan.constant
        if not program.outputs:
            return {}
        rows = []
        for target in targets:
            places = b"" if target.where is None else target.where.tobytes()
            key = target.weights.tobytes() + places, images.shape[1:]
            arrays = self._constants.get(key)  # another thread may replace them
            if arrays is None:
                arrays = self._run_constants(images[:1], target)
                self._constants = {key: arrays}
            rows.append(arrays)
        return {
            output: rows[0][output]
            if len(rows) == 1
            else np.concatenate([row[output] for row in rows])
            for output in program.outputs
        }

    def _run_constants(self, image: Images, target: Target) -> dict[Output, Array]:
        program, samples = self.plan.constant, Samples(1, weights=np.ones(1))
        arrays = self._run(program, SampleBase(image, image), samples, target)
        return dict(zip(program.outputs, arrays, strict=True))

    def sampled(
        self,
        base: SampleBase,
        samples: Samples,
        target: Target,
        progress: ProgressCallback = no_progress,
        names: Collection[str] | None = None,
    ) -> dict[Output, Array]:
        """The quantities of the samples of one image; only those with these `names`, unless it is None."""
        results: dict[Output, Array] = {}
        varying = _select(self.plan.sampled, names)
        constant = _select(self.plan.constant_sampled, names)
        if varying.outputs:
            arrays = self._run(varying, base, samples, target, progress)
            results |= dict(zip(varying.outputs, arrays, strict=True))
        else:
            progress(samples.count)
        if constant.outputs:
            arrays = self._run(constant, base, self._distinct(constant, samples), target)
            results |= dict(zip(constant.outputs, arrays, strict=True))
        return {
            output: samples.spread(array)
            if QUANTITIES[output.quantity].reduction == "stack"
            else array
            for output, array in results.items()
        }

    def _distinct(self, program: Program, samples: Samples) -> Samples:
        """Only the first sample if a program that does not depend on what samples vary returns the same for all
        of them.
        """
        inputs = self.runs[program.model].session.inputs
        is_same = np.ptp(samples.factors) == 0
        if is_same and not any(sample_input(name) in inputs for name in samples.inputs):
            return Samples(1, weights=samples.factors[:1])
        return samples

    def scores(self, base: SampleBase, samples: Samples, target: Target) -> Floats:
        """(n,): the target's score on each sample."""
        return target.score(self.class_scores(base, samples, target))

    def class_scores(self, base: SampleBase, samples: Samples, target: Target) -> Scores:
        """(n, classes): all scores on each sample; of the target, only the positions have a meaning."""
        model = HEAD if HEAD in self.runs else MODEL
        stacked = Output(SAMPLE_SCORES, 0, self.plan.explained_tensor)
        program = Program(model, (stacked,))
        unweighted = replace(target, weights=np.zeros_like(target.weights))
        (scores,) = self._run(program, base, samples, unweighted)
        return np.asarray(scores, np.float64).reshape(samples.count, -1)

    def _run(
        self,
        program: Program,
        base: SampleBase,
        samples: Samples,
        target: Target,
        progress: ProgressCallback = no_progress,
    ) -> list[Array]:
        """The outputs of a program for the samples of one image: sums are divided by the number of samples, and
        scores are stacked.
        """
        run = self.runs[program.model]
        feed = self._feed(run, base, samples, target)
        parts: list[list[Array]] = [[] for _ in program.outputs]
        for chunk, arrays in run.run(program.tensors, samples.count, feed):
            for output, array, part in zip(program.outputs, arrays, parts, strict=True):
                collect(part, array, is_sum=QUANTITIES[output.quantity].reduction == "mean")
            progress(chunk.stop - chunk.start)
        return [
            combine(part, output.quantity, samples.count)
            for output, part in zip(program.outputs, parts, strict=True)
        ]

    def _feed(self, run: ChunkedRunner, base: SampleBase, samples: Samples, target: Target) -> Feed:
        """The inputs for the samples of an image: their cotangents are the target's weights times their own."""
        varied = self.plan.layers[0].name if run is self.runs.get(HEAD) else self.plan.image.name
        scales = np.zeros(samples.count) if samples.offsets is None else samples.scales
        factors, none = samples.factors, np.zeros([1] * base.values.ndim, np.float32)
        fixed = {self.plan.image.name: base.image, **base.beside}
        if target.where is not None:
            fixed[WHERE] = np.asarray(target.where[None], np.float32)
        fixed = {name: fixed[name] for name in fixed.keys() & run.session.inputs - {varied}}

        def feed(chunk: slice) -> Mapping[str, FeedValue]:
            count = chunk.stop - chunk.start
            offsets = none if samples.offsets is None else samples.offsets[chunk]
            ones = np.ones(count) if scales is None else scales[chunk]
            feeds: dict[str, Any] = {
                **{name: np.repeat(array, count, axis=0) for name, array in fixed.items()},
                SEED: self.plan.seeds(target.weights * factors[chunk, None]),
                RANK: np.zeros(count, np.int64),
                OFFSET: offsets,
                SCALE: np.asarray(ones, np.float32),
                varied: base.values,
            }
            feeds |= {sample_input(name): rows[chunk] for name, rows in samples.inputs.items()}
            return _only(feeds, run)

        return feed

    def arrange(self, arrays: Mapping[Output, Array], images: Images) -> list[Quantities]:
        """For each layer its quantities by name, with the channels first, in float64."""
        height, width = self.plan.image.size_of(images)
        image_layer = self.plan.image.as_layer()
        layers: list[Quantities] = [{} for _ in self.plan.layers]
        for output, array in arrays.items():
            place = QUANTITIES[output.quantity].place
            layer = self.plan.layers[output.layer] if place == "layer" else image_layer
            arranged = (
                layer.channels_first(array, height / width)
                if place
                else np.asarray(array, np.float64)
            )
            of_all = [output.layer] if place == "layer" else range(len(layers))
            for number in of_all:
                layers[number][output.quantity] = arranged
        return layers

    def nearby(
        self, image: Images, target: Target, factor: float, samples: Samples | None
    ) -> dict[Output, Array]:
        """The quantities that are proportional to a power of the cotangent, close to the image (1, ...), for
        `factor` times the target, divided by that power of `factor`. What the sampler feeds is that of the
        first of its `samples`. They are nearly the same as at the image, or at a sample of it, unless they are
        only rounding errors.
        """
        near = nearby_image(image, factor)
        scaled = replace(target, weights=factor * target.weights)
        where = None if target.where is None else target.where[None]
        clean = self._clean(near, scaled.weights[None], where=where)
        arrays = dict(clean.arrays)
        if self.plan.constant.outputs:  # those of the target itself stay in memory
            arrays |= self._run_constants(near, scaled)
        if samples is not None:
            base = clean.sample_base(0, is_cut=HEAD in self.runs)
            sample = Samples(1, weights=np.array([factor]), inputs=samples.inputs)
            arrays |= self.sampled(base, sample, target)
        degrees = {output: QUANTITIES[output.quantity].degree for output in arrays}
        return {
            output: np.asarray(array, np.float64) / factor ** (degrees[output] or 0)
            for output, array in arrays.items()
            if degrees[output]
        }


def _select(program: Program, names: Collection[str] | None) -> Program:
    """The program with the quantities of these names only; None for all of them."""
    if names is None:
        return program
    return replace(program, outputs=tuple(o for o in program.outputs if o.quantity in names))


def _only(feeds: Mapping[str, Any], run: ChunkedRunner) -> dict[str, FeedValue]:
    """The arrays for the inputs that the model has. Inputs that only a sampler feeds get zeros where there are
    no samples: what is run then does not depend on them.
    """
    session = run.session
    idle = {
        name: np.zeros([dim if isinstance(dim, int) else 1 for dim in shape], session.dtypes[name])
        for name, shape in session.shapes.items()
        if name.startswith(SAMPLE_INPUT) and name not in feeds
    }
    return {name: array for name, array in feeds.items() if name in session.inputs} | idle
