"""Draw the samples of an image, and run the model on them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from onnxcam.arrays import Array, Floats, Images, Quantities
from onnxcam.explain.clean_pass import CleanPass, SampleBase
from onnxcam.explain.demand import sampling_key
from onnxcam.explain.inputs import prepare_source
from onnxcam.explain.run import ProgressCallback, Runner, no_progress
from onnxcam.image.preprocess import Preprocessing, gray_level
from onnxcam.methods import QUANTITIES, Method
from onnxcam.methods.place import IMAGE
from onnxcam.methods.samplers import CleanRun, Samples
from onnxcam.specs import HEAD, Output, Plan, sample_input
from onnxcam.targets.target import Target

MAX_REMEMBERED = 4  # what samplers store for later images


def count_samples(
    method: Method, settings: Mapping[str, Any], plan: Plan, size: tuple[int, int]
) -> int | None:
    """The number of samples of an image (height, width), None if it is not known before they are drawn."""
    layer = plan.layers[0]
    if method.at == IMAGE:  # of any size, perhaps
        layer = replace(plan.image, height=size[0], width=size[1]).as_layer()
    return method.sampler.count(layer, settings)


@dataclass(frozen=True)
class Sampling:
    """The sampler of a method with its settings, and what runs its samples. `memory` outlives the image."""

    runner: Runner
    method: Method
    settings: Mapping[str, Any]
    preprocessing: Preprocessing
    memory: dict[object, Any]

    def run(
        self, clean: CleanPass, number: int, target: Target, progress: ProgressCallback
    ) -> tuple[dict[Output, Array], Samples | None]:
        """The quantities of one image's samples, and the samples; None if there are none."""
        if self.method.sampler.draw is None:
            progress(1)
            return {}, None
        names = {*self.method.quantities(self.settings).values()}
        if self.runner.shared is None or self.method.sampler.asks:
            return self._run(clean, number, target, names, progress)
        counts: list[int] = []

        def run(runner: Runner) -> tuple[dict[Output, Array], Samples | None]:
            names = {output.quantity for p in runner.plan.programs for output in p.outputs}
            return replace(self, runner=runner)._run(clean, number, target, names, count)

        def count(passes: int) -> None:
            counts.append(passes)
            progress(passes)

        key = sampling_key(self.method, self.settings), clean.images[number : number + 1], target
        arrays, samples = self.runner.shared.sampled(self.runner, key, run)
        if not counts:  # they were run for another method
            progress(self._count(clean.images) or 1)
        return arrays, samples

    def _run(
        self,
        clean: CleanPass,
        number: int,
        target: Target,
        names: Collection[str],
        progress: ProgressCallback,
    ) -> tuple[dict[Output, Array], Samples]:
        """Draw the samples of one image, and run them for the quantities of these names."""
        draw = self.method.sampler.draw
        assert draw is not None  # noqa: S101  the model is run on samples
        sampler = self.method.sampler
        base = clean.sample_base(number, is_cut=HEAD in self.runner.runs)
        expected = self._count(base.image)
        report = no_progress if expected is None else progress
        samples = draw(
            self.clean_run(base, target, report),
            *self._taken(clean, number, target),
            **self.method.sampler_settings(self.settings),
        )
        self._require_complete(samples, names)
        if sampler.asks:  # its samples were counted when it ran them
            report = no_progress
        arrays = self.runner.sampled(base, samples, target, report, names)
        if expected is None:
            progress(1)  # the number of samples was not known before
        elif expected > samples.count:
            progress(expected - samples.count)  # those that need not be run
        return arrays, samples

    def _count(self, images: Images) -> int | None:
        """The number of samples of each of some images, None if it is not known."""
        plan = self.runner.plan
        return count_samples(self.method, self.settings, plan, plan.image.size_of(images))

    def clean_run(self, base: SampleBase, target: Target, progress: ProgressCallback) -> CleanRun:
        """What the sampler knows of an image."""
        plan, names = self.runner.plan, self.method.sampler.asks
        image, values = base.image, cast(Any, base.values)
        height, width = plan.image.size_of(image)

        def compute(drawn: Samples) -> Quantities:
            self._require_complete(drawn, names)
            arrays = self.runner.sampled(base, drawn, target, progress, names)
            return self.runner.arrange(arrays, image)[0]

        return CleanRun(
            image=image,
            weights=target.weights,
            values=values,
            layer=plan.layers[0] if values is not image else plan.image.as_layer(),
            aspect_ratio=height / width,
            read_image=self._read_image,
            color=partial(gray_level, self.preprocessing, plan.image),
            scores=lambda drawn: self.runner.scores(base, drawn, target),
            to_device=self._to_device,
            recall=self._recall,
            compute=compute,
        )

    def _taken(self, clean: CleanPass, number: int, target: Target) -> list[Floats]:
        """The quantities of one image that the sampler takes, with the channels first, in float64."""
        names, row = self.method.sampler.takes, clean.rows(slice(number, number + 1))
        if not names:
            return []
        arrays = {**row.arrays, **self.runner.constants(row.images, [target])}
        taken = {output: array for output, array in arrays.items() if output.quantity in names}
        (layer, *_) = self.runner.arrange(taken, row.images)
        return [layer[name] for name in names]

    def _require_complete(self, samples: object, names: Collection[str]) -> None:
        """ValueError for a result that is not `Samples`, or that lacks an input of one of these quantities:
        with zeros in its place, the map would be empty or wrong.
        """
        name = self.method.sampler.name
        if not isinstance(samples, Samples):
            raise ValueError(f"sampler {name} returned {type(samples).__name__}; expected Samples")
        plan, runs = self.runner.plan, self.runner.runs
        for program in (plan.clean, plan.constant, plan.sampled, plan.constant_sampled):
            for output in (output for output in program.outputs if output.quantity in names):
                missing = [
                    source
                    for source in QUANTITIES[output.quantity].sample_inputs
                    if source not in samples.inputs
                    and sample_input(source) in runs[program.model].session.inputs
                ]
                if missing:
                    raise ValueError(
                        f"quantity {output.quantity} is written from {', '.join(missing)}, which sampler "
                        f"{name} does not feed; its inputs: {', '.join(samples.inputs) or 'none'}"
                    )

    def _read_image(self, path: str) -> Array:
        return prepare_source(path, 0, self.preprocessing, self.runner.plan.image).tensor

    def _to_device(self, array: Any) -> Any:
        """The array on the device of the model; unchanged if a fixed batch is filled up first."""
        run = self.runner.main
        return array if run.fixed_batch is not None else run.session.to_device(array)

    def _recall(self, key: object, make: Callable[[], Any]) -> Any:
        stored = self.memory.get(key)  # another thread may clear the memory
        if stored is None:
            if len(self.memory) >= MAX_REMEMBERED:
                self.memory.clear()
            stored = self.memory[key] = make()
        return stored
