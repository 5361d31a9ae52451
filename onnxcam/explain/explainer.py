"""The main use case: explain images by a method, as maps of where the model looked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxcam.defaults import DEFAULT_METHOD, LEAST, MOST
from onnxcam.errors import ImageError
from onnxcam.explain import pipeline
from onnxcam.explain.announce import announce
from onnxcam.explain.answers import Answers, answers_request
from onnxcam.explain.arguments import (
    LabelSource,
    LayerSource,
    check_choices,
    check_scope,
    check_target_kind,
    files_beside,
    resolve_labels,
    target_per_image,
    targets_of,
    unused_target_notice,
)
from onnxcam.explain.block import Block
from onnxcam.explain.compile import to_portable
from onnxcam.explain.demand import make_demand
from onnxcam.explain.explanation import Explanation
from onnxcam.explain.formula import BoundFormula
from onnxcam.explain.head_choice import parse_head
from onnxcam.explain.image_values import read_inputs
from onnxcam.explain.inputs import ImageSource, PreparedInput, as_sources, input_loaders
from onnxcam.explain.join import Origin, join_results
from onnxcam.explain.model_notices import model_notices
from onnxcam.explain.pipeline import ErrorCallback, Load, Rows, Step
from onnxcam.explain.provenance import describe
from onnxcam.explain.read_target import TargetReader, kind_of
from onnxcam.explain.references import read_reference
from onnxcam.explain.run import ProgressCallback, Runner, no_progress
from onnxcam.explain.runners import Options, open_runner
from onnxcam.explain.sampling import Sampling, count_samples
from onnxcam.explain.shared_model import SharedModel
from onnxcam.explain.top_channels import check_top_channels
from onnxcam.image.preprocess import Preprocessing, tensor_size
from onnxcam.image.preprocessing_choice import choose, notice_of, requested_size, with_settings
from onnxcam.methods import choose_method
from onnxcam.methods.subset import Channels, Region, Subset
from onnxcam.runtime.device import Device, find_device
from onnxcam.runtime.session import memory_errors
from onnxcam.specs import AUTO
from onnxcam.targets.classes import DEFAULT_TARGET, Spec
from onnxcam.targets.where.read import ALL

if TYPE_CHECKING:
    from onnxcam.model.model import Model


class Explainer:
    """Explains images by one method at one layer (or several) of one model.

    Args:
        model: path, bytes, ModelProto, or a loaded `Model`.
        method: one of `METHODS`.
        layer: "auto", the name of a `Layer`, its number (72, "72", or "#72"), a unique part of its name, or a
            pattern; or several, whose maps are fused, as a sequence or separated by commas.
        device: "auto", "cpu", "cuda" or "cuda:N", or "cuda+tf32" (faster: products of 11-bit mantissas).
        preprocess: "auto" (as the model's metadata or a file beside it says, else "imagenet"), the name of a
            preset, or a `Preprocessing`.
        labels: one name per class: a file (see `image.labels`), a sequence, or a mapping of index to name or
            name to index; "auto" uses those in the model's metadata, or in a file beside it.
        output: the tensor with one score per class; by default the output that most likely has them.
        task, head: what the model is for, and what its outputs are, if the notices say something wrong; see
            `parse_head`.
        score: "logit" (default), "exp" (see `methods`), or "probability" of the last Softmax or Sigmoid.
        channels, region: which feature maps and neurons count; see `methods.subset`.
        fuse: "max" or "mean" of the maps of several layers.
        top_channels: how many of the feature maps that weigh most are ranked (see `top_channels.py`).
        pixels: settings of the preprocessing that replace those of `preprocess` (see
            `image.preprocess.with_overrides`); None changes nothing.
        inputs: values of the model's other inputs, by name: arrays, or images, which are prepared as the
            explained ones are. They become constants of the model (see `model.load`).
        min_score, max_targets: the smallest probability and the largest number of the detections, regions, or
            characters of an image that the target "all" stands for.
        chunk: how many inputs are run at once; by default the fastest number is measured.
        cache: whether to store the model with its gradients on disk, for the next time (see `cache.py`). Only
            for a path or bytes: a `Model` may have been changed.
        shared: what explainers of the same model share (see `compare`).
        settings: those of the method (`METHODS[method].settings`): samples, noise, sigma, seed, …

    Raises ModelError, UnknownNameError, SettingError and DeviceError; their messages say what to do.
    """

    def __init__(
        self,
        model: str | Path | bytes | Model,
        method: str = DEFAULT_METHOD,
        layer: LayerSource = AUTO,
        *,
        device: str = "auto",
        preprocess: str | Preprocessing = "auto",
        labels: LabelSource = "auto",
        output: str | None = None,
        task: str | None = None,
        head: str | None = None,
        score: str = "logit",
        channels: Channels | None = None,
        region: Region | None = None,
        fuse: str = "max",
        pixels: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        min_score: float = LEAST,
        max_targets: int = MOST,
        top_channels: int = 0,
        chunk: int | None = None,
        cache: bool = True,
        shared: SharedModel | None = None,
        **settings: Any,
    ) -> None:
        inputs = read_inputs(model, inputs, preprocess, pixels)
        arguments = {
            name: value for name, value in locals().items() if name not in ("self", "shared")
        }
        self._arguments = {**arguments.pop("settings"), **arguments}
        self.method, settings = choose_method(method, settings)
        check_choices(self.method, score, fuse, chunk)
        check_scope(self.method, layer, channels, region, fuse)
        self.settings, self.demand = make_demand(
            self.method, settings, layer, output, score, parse_head(task, head)
        )
        loaded, size = shared.loaded if shared else None, requested_size(preprocess, pixels)
        self.inputs = inputs
        self._options = Options(model, find_device(device), inputs, chunk, cache, loaded, size)
        self._open = partial(open_runner, self._options)
        self._runners: dict[tuple[str, ...], Runner] = {}
        self._memory: dict[object, Any] = {}
        self._announced, self._shared = set[str](), shared
        self.fuse, self.score_kind, self._limits = fuse, score, (min_score, max_targets)
        self._subset = Subset(channels, region)
        self.plan = self.runner_for(()).plan
        self.top_channels = check_top_channels(self.method, self.plan.layers, top_channels)
        self._files = files_beside(model)
        self.labels, self._label_notice = resolve_labels(labels, self.plan, self._files)
        choice = choose(preprocess, self.plan.metadata, self.plan.image, self._files)
        self.preprocessing_choice = with_settings(choice, **(pixels or {}))

    @cached_property
    def _answers(self) -> Answers | None:
        """What asks the model for its scores at positions; None for a model without them."""
        if self.plan.dense is None:
            return None
        request, open_alone = answers_request(self.demand.request), self._open
        runner = self._shared.answers(request, open_alone) if self._shared else open_alone(request)
        return Answers(runner, self.labels, *self._limits)

    def expand(self, prepared: PreparedInput, spec: Spec) -> list[Spec]:
        """The targets of an image that a specification stands for."""
        if spec != ALL or ALL in (self.labels or ()) or self._answers is None:
            return [spec]
        return [*self._answers.expand(prepared.tensor, prepared.image)]

    def runner_for(self, target: tuple[str, ...]) -> Runner:
        """What runs the model for a kind of target; made when it is first needed."""
        if target not in self._runners:
            check_target_kind(target, self.demand.request)
            demand, shared = self.demand.for_target(target), self._shared
            self._runners[target] = (
                shared.runner(demand, self._open) if shared else self._open(demand.request)
            )
        return self._runners[target]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by the arguments: unpickling opens the model again, from the cache if it is there.
        ModelError for a loaded model, which has no file to open.
        """
        model = to_portable(self._arguments["model"])
        return partial(Explainer, **{**self._arguments, "model": model}), ()

    @property
    def device(self) -> Device:
        """The device that runs the model."""
        return self.runner.main.session.device

    @property
    def runner(self) -> Runner:
        """What runs the model for classes."""
        return self.runner_for(())

    @property
    def passes(self) -> int:
        """The number of model inputs that are run per image after the clean one, for progress."""
        size = tensor_size(self.preprocessing, self.plan.image)
        return count_samples(self.method, self.settings, self.plan, size) or 1

    @property
    def preprocessing(self) -> Preprocessing:
        """How images are turned into the input of the model."""
        return self.preprocessing_choice.preprocessing

    @property
    def channels(self) -> Channels | None:
        """The feature maps that count, unless a call says otherwise; None for all."""
        return self._subset.channels

    @property
    def region(self) -> Region | None:
        """The cells that count, unless a call says otherwise; None for all."""
        return self._subset.region

    @property
    def preprocessing_notice(self) -> str | None:
        """What is assumed about images (not arrays) because neither user nor model says it; None if nothing."""
        return notice_of(self.preprocessing_choice, self.plan.image)

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should know about this model and method."""
        notices = [*self.plan.notices, *self.runner.main.session.notices, *self._files.problems]
        notices += [self._label_notice] if self._label_notice else []
        notices += model_notices(self.plan, self.method, self.settings, self.labels)
        return tuple(notices)

    def __call__(
        self,
        images: ImageSource | Sequence[ImageSource],
        target: Spec | Sequence[Spec] = DEFAULT_TARGET,
        *,
        channels: Channels | None = None,
        region: Region | None = None,
        progress: ProgressCallback = no_progress,
    ) -> Explanation:
        """Explain one or several images (paths, bytes, PIL images), or arrays that are already preprocessed:
        (C, H, W) or (H, W, C) as the model expects them, or (N, ...).

        `target` is "topK", a class index, a label, a contrast "281-282", "not 281" for the evidence against
        a class, or "element:NAME[4,17]"; one for all images, or one per image. `channels` and `region` replace
        those of the explainer for this call. Raises ImageError, TargetError, SettingError and RunError.
        """
        subset = self._subset_of(channels, region)
        loads = [*input_loaders(as_sources(images), self.preprocessing, self.plan.image)]
        if not loads:
            raise ImageError("there are no images to explain; pass at least one")
        specs = target_per_image(target, len(loads))
        threads = pipeline.preparing_threads() if len(loads) > 1 else 0
        run = self.run_steps(
            pipeline.load_steps(loads, specs, self.expand), subset, progress, threads=threads
        )
        steps = [*pipeline.of_one_size(pipeline.successful(run), self.plan.image)]
        return announce(self.join(steps, self.origin(subset)), self._announced)

    def stream(
        self,
        images: ImageSource | Iterable[ImageSource],
        target: Spec | Iterable[Spec] = DEFAULT_TARGET,
        *,
        channels: Channels | None = None,
        region: Region | None = None,
        progress: ProgressCallback = no_progress,
        on_error: ErrorCallback | None = None,
    ) -> Iterator[Explanation]:
        """Explain any number of images one after the other, in the memory of a few: an explanation of each.

        Images, which may be of different sizes, are taken from `images` while earlier ones run: up to 32 before
        their explanations are returned. An array (N, ...) counts as N images. `target` is as in a call, or an
        iterable of one per image. An image that fails raises its error in its turn, which ends the stream; with
        `on_error`, the function gets the source and the error instead, and the image is left out.
        """
        subset = self._subset_of(channels, region)
        loads = input_loaders(as_sources(images), self.preprocessing, self.plan.image)
        origin = self.origin(subset)
        steps_of = pipeline.load_steps(loads, targets_of(target), self.expand)
        steps = self.run_steps(steps_of, subset, progress)
        return (
            announce(self.join([step], origin), self._announced)
            for step in pipeline.successful(steps, on_error)
        )

    def _subset_of(self, channels: Channels | None, region: Region | None) -> Subset:
        """The feature maps and cells that count in a call."""
        check_scope(self.method, AUTO, channels, region, self.fuse)
        return Subset(
            self.channels if channels is None else channels,
            self.region if region is None else region,
        )

    def run_steps(
        self,
        loads: Iterable[Load],
        subset: Subset | None = None,
        progress: ProgressCallback = no_progress,
        *,
        threads: int | None = None,
        start: Callable[[Step], None] | None = None,
        compute: Callable[..., Rows] = Block.explain,
    ) -> Iterator[Step]:
        """The steps of many images, in order, with what `compute` returns of each block, or errors; see
        `pipeline.run_steps`.
        """
        formula = BoundFormula(self.method, self.settings, subset or self._subset)

        def run(steps: Sequence[Step], count: ProgressCallback) -> Rows:
            with memory_errors("while images were explained"):
                runner = self.runner_for(kind_of(steps[0].spec, self.labels))
                sampling = Sampling(
                    runner, self.method, self.settings, self.preprocessing, self._memory
                )
                inputs = pipeline.inputs_of(steps, runner.plan.image_dtype)
                compare = partial(read_reference, runner=runner, preprocessing=self.preprocessing)
                reader = TargetReader(self.labels, self.score_kind == "probability", compare)
                top = self.top_channels
                block = Block(runner, formula, reader, sampling, self.fuse, self._answers, top)
                return compute(block, *inputs, count)

        return pipeline.run_steps(
            loads,
            run,
            lambda step: (kind_of(step.spec, self.labels), step.tensor.shape),
            # the quantities of all tensors of a block are in memory
            block=max(1, pipeline.BLOCK // max(self.passes, len(self.plan.layers))),
            threads=pipeline.preparing_threads() if threads is None else threads,
            start=start,
            progress=progress,
            runs=pipeline.RUNS if self.passes == 1 else 1,
            is_tuned=lambda: self.runner.is_tuned,
        )

    def join(self, steps: Sequence[Step], origin: Origin) -> Explanation:
        """The explanation of steps that have results."""
        inputs = [step.input for step in steps if step.input is not None]
        results = [step.result for step in steps if step.result is not None]
        is_prepared = any(prepared.is_preprocessed for prepared in inputs)
        notices = [self.preprocessing_notice] if is_prepared else []
        notices.append(unused_target_notice(self.method, [step.spec for step in steps]))
        return join_results([prepared.image for prepared in inputs], results, notices, origin)

    def origin(self, subset: Subset | None = None) -> Origin:
        """What all explanations of this explainer, with these feature maps and cells, have in common."""
        provenance = describe(
            self.plan,
            self.method,
            self._arguments,
            settings=self.settings,
            subset=subset or self._subset,
            preprocessing=self.preprocessing,
            files=self._files.digests,
            device=self.device,
        )
        return Origin(self.method, self.notices, provenance, self.labels)
