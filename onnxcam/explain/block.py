"""Explain a block of images that are run together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from onnxcam.arrays import Array, Floats, Images, Quantities, Saliency, Scores
from onnxcam.errors import ModelError, RunError
from onnxcam.explain.answers import Answers
from onnxcam.explain.clean_pass import CleanPass
from onnxcam.explain.evidence import clear_rounding_errors
from onnxcam.explain.explanation import ExplainedImage
from onnxcam.explain.formula import BoundFormula, MapResult, join_tensors
from onnxcam.explain.probabilities import Probabilities, target_probability
from onnxcam.explain.read_target import TargetReader
from onnxcam.explain.run import ProgressCallback, Runner
from onnxcam.explain.sampling import Sampling
from onnxcam.explain.top_channels import TopChannels, rank_channels
from onnxcam.methods import Samples
from onnxcam.methods.completeness import gap_notice
from onnxcam.methods.postprocess import fuse_maps, resize_bilinear
from onnxcam.specs import Plan
from onnxcam.targets.classes import DEFAULT_TARGET, Spec
from onnxcam.targets.target import Target

MAX_BYTES = 16 << 20  # of what a model returns for a formula, which computes in float64 with copies


class BlockResult(NamedTuple):
    """The results of N images."""

    maps: Saliency  # (N, H, W) float32
    layer_maps: Saliency | None  # (N, h, w) float32
    attributions: Floats | None  # (N, C, H, W) float32
    targets: list[Target]
    scores: Floats  # (N,)
    probabilities: list[Probabilities | None]  # (1,) of each image
    facts: list[dict[str, float]]
    notices: list[tuple[str, ...]]  # about each image
    layers: list[tuple[str, ...]]  # of each image, which may depend on the target
    tensors: list[str]  # what is explained of each image
    channels: list[TopChannels]  # of each image; empty unless they are asked for

    def row(self, number: int) -> BlockResult:
        """The result of one image."""
        row = slice(number, number + 1)
        parts: Any = (None if part is None else part[row] for part in self)
        return BlockResult(*parts)


@dataclass(frozen=True)
class Block:
    """Explains images of one size by one method."""

    runner: Runner
    formula: BoundFormula
    reader: TargetReader
    sampling: Sampling
    fuse: str
    answers: Answers | None = None  # of a model with scores at positions
    top_channels: int = 0  # how many feature maps of each image are ranked

    @property
    def plan(self) -> Plan:
        """What is run."""
        return self.runner.plan

    def explain(
        self,
        images: Images,
        specs: Sequence[Spec],
        shown: Sequence[ExplainedImage],
        progress: ProgressCallback,
    ) -> BlockResult:
        """The results for images (N, ...), which show the originals `shown`, and a target for each of them. The
        formula gets as many of them at a time as are small.
        """
        clean, targets = self.clean_pass(images, specs, shown)
        count = max(1, MAX_BYTES // max(1, clean.image_bytes))
        parts = [slice(start, start + count) for start in range(0, len(images), count)]
        results = [self._explain(clean.rows(part), targets[part], progress) for part in parts]
        return results[0] if len(results) == 1 else _join(results)

    def _explain(
        self, clean: CleanPass, targets: list[Target], progress: ProgressCallback
    ) -> BlockResult:
        images = clean.images
        with np.errstate(all="ignore"):  # what is not finite is refused below
            layers, samples = self._quantities(clean, targets, progress)
            self._refuse(layers)
            results = self._compute(layers)
            empty = self._clear(clean, targets, samples, layers, results)
            saliency = results[0].saliency
            if len(results) > 1:
                saliency = fuse_maps([result.saliency for result in results], self.fuse)
            rounded = saliency.astype(np.float32)  # may overflow
        self._require_finite([rounded, *(array for layer in layers for array in layer.values())])
        has_layer_maps = not self.formula.method.is_at_image
        facts = self._facts(layers, results, len(images))
        return BlockResult(
            maps=_resize(saliency, *self.plan.image.size_of(images)),
            layer_maps=rounded if has_layer_maps else None,
            attributions=_attributions(results[0]) if len(results) == 1 else None,
            targets=targets,
            scores=self._scores(targets, clean.scores),
            probabilities=self._probabilities(targets, clean.scores),
            facts=facts,
            notices=[
                *map(_notices, targets, samples, self._add_gap_notices(empty, targets, facts))
            ],
            layers=[tuple(layer.name for layer in self.plan.layers)] * len(images),
            tensors=[self.plan.explained_tensor] * len(images),
            channels=self._top_channels(layers[0], empty),
        )

    def clean_pass(
        self, images: Images, specs: Sequence[Spec], shown: Sequence[ExplainedImage]
    ) -> tuple[CleanPass, list[Target]]:
        """The clean pass, and the target of each image. A second pass is needed if the quantities depend on
        targets that the model does not find itself.
        """
        if not self.formula.method.needs_target:
            zeros = np.zeros((len(images), self.plan.score.classes))
            any_target = Target("any target", zeros[0], -1, DEFAULT_TARGET)
            return self._run_clean(images, zeros, None), [any_target] * len(images)
        runner, reader = self.runner, self.reader
        if self.answers is not None and self.plan.dense is not None:
            targets = self.answers.targets(images, specs, shown)
            where = np.stack([target.where for target in targets if target.where is not None])
            weights = np.stack([target.weights for target in targets])
            return self._run_clean(images, weights, None, where), targets
        weights, ranks, is_complete = reader.weights_and_ranks(
            specs, self.plan, ranks_classes=runner.ranks_classes
        )
        clean = self._run_clean(images, weights, ranks)
        runner.require_finite_scores(clean.scores)
        targets = reader.read_all(specs, self.plan, clean.scores)
        if not is_complete and runner.needs_target:
            clean = runner.clean(images, np.stack([target.weights for target in targets]))
        return clean, targets

    def _run_clean(
        self, images: Images, weights: Floats, ranks: Array | None, where: Floats | None = None
    ) -> CleanPass:
        """The clean pass. If it fails for a model that accepts any size, the error names the size."""
        try:
            return self.runner.clean(images, weights, ranks, where)
        except RunError as error:
            if self.plan.image.height and self.plan.image.width:
                raise
            height, width = self.plan.image.size_of(images)
            raise RunError(
                f"{error} (the input was {height} x {width}; if the model expects another size, set it "
                "with --size)"
            ) from error

    def _quantities(
        self, clean: CleanPass, targets: Sequence[Target], progress: ProgressCallback
    ) -> tuple[list[Quantities], list[Samples | None]]:
        """For each layer the quantities (N, ...) that the formula takes and what the sampler names, and the
        samples of each image.
        """
        arrays = {**clean.arrays, **self.runner.constants(clean.images, targets)}
        rows, samples = zip(
            *(self.sampling.run(clean, n, target, progress) for n, target in enumerate(targets)),
            strict=True,
        )
        sampled = {output: np.concatenate([row[output] for row in rows]) for output in rows[0]}
        names = samples[0].named if samples[0] else {}
        named = {name: _concatenate([drawn.named[name] for drawn in samples]) for name in names}
        layers = self.runner.arrange(arrays | sampled, clean.images)
        return [{**layer, **named} for layer in layers], list(samples)

    def _refuse(self, layers: Sequence[Quantities]) -> None:
        """ModelError if the method does not apply to the model."""
        for layer, quantities in zip(self.plan.layers, layers, strict=True):
            is_constant = self.plan.gradient_is_constant
            if reason := self.formula.refusal(quantities, is_constant=is_constant):
                method = self.formula.method.name
                raise ModelError(f"{method} does not apply to {layer.name!r}: {reason}")

    def _compute(self, layers: Sequence[Quantities]) -> list[MapResult]:
        """The maps of each layer, or one of all tensors of the method."""
        if self.formula.takes_tensors:
            return [self.formula.compute(join_tensors(layers))]
        return [self.formula.compute(self.formula.select(quantities)) for quantities in layers]

    def _top_channels(
        self, quantities: Quantities, empty: Sequence[str | None]
    ) -> list[TopChannels]:
        """The feature maps that weigh most in the map of each image; none if it is only rounding errors."""
        if not self.top_channels:
            return []
        return [
            rank_channels(self.formula, _row(quantities, n), 0 if notice else self.top_channels)
            for n, notice in enumerate(empty)
        ]

    def _clear(
        self,
        clean: CleanPass,
        targets: Sequence[Target],
        samples: Sequence[Samples | None],
        layers: Sequence[Quantities],
        results: list[MapResult],
    ) -> list[str | None]:
        """Set the maps that are only rounding errors to zero, in place, and return a notice about each."""
        if self.formula.takes_tensors:
            return [None] * len(targets)
        notices = []
        for number, target in enumerate(targets):
            row = slice(number, number + 1)
            maps = [result.row(row) for result in results]
            notice = clear_rounding_errors(
                self.plan,
                target,
                clean.scores[number],
                [_row(layer, number) for layer in layers],
                maps,
                self.formula,
                partial(self._nearby, clean.images[row], target, samples[number]),
                clean.images[row],
            )
            notices.append(notice)
            if notice:
                results[:] = [
                    result.with_row(row, cleared)
                    for result, cleared in zip(results, maps, strict=True)
                ]
        return notices

    def _probabilities(
        self, targets: Sequence[Target], scores: Scores
    ) -> list[Probabilities | None]:
        """The probability of each image's target, where there is one."""
        if self.plan.target or not self.formula.method.needs_target:
            return [None] * len(targets)
        if self.plan.dense is not None:
            known = [target.probability for target in targets]
            return [None if p is None else np.array([p]) for p in known]
        score, explained = self.plan.score, self.plan.explained_tensor
        return [
            target_probability(score, explained, row[None], target)
            for target, row in zip(targets, scores, strict=True)
        ]

    def _scores(self, targets: Sequence[Target], scores: Scores) -> Floats:
        """(N,): the score of each image's target; NaN for a method that needs no target."""
        if not self.formula.method.needs_target:
            return np.full(len(targets), np.nan)
        return np.array(
            [float(target.score(row[None])[0]) for target, row in zip(targets, scores, strict=True)]
        )

    def _nearby(
        self, image: Images, target: Target, samples: Samples | None, factor: float
    ) -> list[Quantities]:
        """For each layer the quantities close to an image (1, ...); see `Runner.nearby`."""
        arrays = self.runner.nearby(image, target, factor, samples)
        return self.runner.arrange(arrays, image)

    def _facts(
        self, layers: Sequence[Quantities], results: Sequence[MapResult], count: int
    ) -> list[dict[str, float]]:
        """What the method reports about each image."""
        quantities = join_tensors(layers) if self.formula.takes_tensors else layers[0]
        facts = self.formula.report(quantities, results[0])
        return [
            {name: float(values[number]) for name, values in facts.items()}
            for number in range(count)
        ]

    def _add_gap_notices(
        self,
        notices: Sequence[str | None],
        targets: Sequence[Target],
        facts: Sequence[Mapping[str, float]],
    ) -> list[str | None]:
        """The notices, and one about each other image whose parts of the score do not add up to it."""
        remedy = self.formula.method.remedy
        gaps = (gap_notice(row, remedy) for row in facts)
        return [
            notice or (f"{target.name}: {gap}" if gap else None)
            for notice, target, gap in zip(notices, targets, gaps, strict=True)
        ]

    def _require_finite(self, arrays: Sequence[Floats]) -> None:
        if not all(np.isfinite(array).all() for array in arrays):
            names = ", ".join(layer.name for layer in self.plan.layers)
            raise RunError(
                f"{self.plan.name}: values, gradients or the map at {names} are not finite (NaN or infinite); "
                "choose another layer, or check the model's weights and the settings of the method"
            )


def _row(quantities: Quantities, number: int) -> Quantities:
    """The quantities of one image."""
    return {name: array[number : number + 1] for name, array in quantities.items()}


def _concatenate(arrays: Sequence[Floats]) -> Floats:
    """Arrays (1, ...) of images as one; smaller ones are filled up with zeros at the end of each axis."""
    shape = np.max([array.shape for array in arrays], axis=0)
    filled = [
        np.pad(array, [(0, size - own) for size, own in zip(shape, array.shape, strict=True)])
        if array.shape != tuple(shape)
        else array
        for array in arrays
    ]
    return np.concatenate(filled)


def _resize(saliency: Saliency, height: int, width: int) -> Saliency:
    """(N, height, width) float32; map by map, which stays in the processor's cache."""
    maps = np.empty((len(saliency), height, width), np.float32)
    for number in range(len(saliency)):
        maps[number] = resize_bilinear(saliency[number : number + 1], height, width)[0]
    return maps


def _join(results: Sequence[BlockResult]) -> BlockResult:
    """The results of all images in one."""
    parts: Any = map(_join_parts, zip(*results, strict=True))
    return BlockResult(*parts)


def _join_parts(parts: Sequence[Any]) -> Any:
    if parts[0] is None:
        return None
    if isinstance(parts[0], list):
        return [row for part in parts for row in part]
    return np.concatenate(parts)


def _notices(target: Target, samples: Samples | None, about_map: str | None) -> tuple[str, ...]:
    """The notices about an image: those of its target and sampler, and one about its map."""
    about_samples = samples.notices if samples else ()
    return (*target.notices, *about_samples, *([about_map] if about_map else ()))


def _attributions(result: MapResult) -> Floats | None:
    attributions = result.attributions
    return None if attributions is None else attributions.astype(np.float32)
