"""The main use case: explain images by a method, as maps of where the model looked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onnxcam.arrays import Floats, Images, Maps, Saliency, Scores
from onnxcam.errors import RunError
from onnxcam.explain.arguments import (
    LabelSource,
    LayerSource,
    check_choices,
    check_chunk,
    layer_names,
    resolve_labels,
    target_per_image,
)
from onnxcam.explain.compile import chunked_runner, compile_model, to_portable
from onnxcam.explain.evidence import BoundFormula, clear_rounding_errors
from onnxcam.explain.explanation import Explanation
from onnxcam.explain.inputs import ImageSource, load_inputs
from onnxcam.explain.probabilities import Probabilities, join_images, target_probability
from onnxcam.explain.run import ProgressCallback, Runner, no_progress
from onnxcam.image.preprocess import Preprocessing, to_dict
from onnxcam.image.preprocessing_choice import Choice, choose, notice_of, with_settings
from onnxcam.methods import DEFAULT_METHOD, METHODS
from onnxcam.methods.postprocess import are_empty, fuse_maps, resize_bilinear
from onnxcam.methods.subset import Channels, Region, Subset
from onnxcam.model.input_values import input_arrays
from onnxcam.runtime.device import Device, find_device
from onnxcam.runtime.session import memory_errors, versions
from onnxcam.specs import AUTO
from onnxcam.targets.classes import Spec, parse_rank, parse_target, single_logit_notice
from onnxcam.targets.target import Target

if TYPE_CHECKING:
    from onnxcam.model.model import Model

CHANGEABLE = ("_preprocessing", "labels", "fuse", "channels", "region")


class ImageResult(NamedTuple):
    """The layer map (1, h, w) of one image, its target and score, the probability (1,) if it has one, and a
    notice if the map is only rounding errors.
    """

    layer_map: Saliency
    target: Target
    score: float
    probability: Probabilities | None
    notice: str | None


class Explainer:
    """Explains images by one method at one layer (or several) of one model.

    Args:
        model: path, bytes, ModelProto, or a loaded `Model`.
        method: one of `METHODS`.
        layer: "auto", the name of a `Layer`, its number (72, "72", or "#72"), a unique part of its name, or a
            pattern; or several, whose maps are fused, as a sequence or separated by commas.
        device: "auto", "cpu", "cuda" or "cuda:N", or "cuda+tf32" (faster: products of 11-bit mantissas).
        preprocess: "auto" (the model's metadata if it has any, else "imagenet"), the name of a preset, or a
            `Preprocessing`.
        labels: one name per class: a file (see `image.labels`), a sequence, or a mapping of index to name or
            name to index; "auto" uses those in the model's metadata.
        output: the tensor with one score per class; by default the output that most likely has them.
        score: "logit" (default), "exp" (see `methods`), or "probability" of the last Softmax or Sigmoid.
        channels, region: which feature maps and neurons count; see `methods.subset`.
        fuse: "max" or "mean" of the maps of several layers.
        inputs: values of the model's other inputs, by name: arrays, which become constants of the model (see
            `model.load`).
        chunk: how many inputs are run at once; by default the fastest number is measured.
        cache: whether to store the model with its gradients on disk and to load it from there the next time
            (see `cache.py`). Only for a path or bytes: a `Model` may have been changed.
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
        score: str = "logit",
        channels: Channels | None = None,
        region: Region | None = None,
        fuse: str = "max",
        inputs: Mapping[str, Any] | None = None,
        chunk: int | None = None,
        cache: bool = True,
        **settings: Any,
    ) -> None:
        inputs = input_arrays(inputs)
        arguments = {name: value for name, value in locals().items() if name != "self"}
        self._arguments = {**arguments.pop("settings"), **arguments}
        self.method = METHODS[method]
        check_choices(method, score, fuse)
        if score == "exp":
            settings["score"] = "exp"
        self.settings = self.method.resolve_settings(settings)
        check_chunk(chunk)
        request = self.method.plan_request(
            layer_names(layer), output, probability=score == "probability"
        )
        target_device = find_device(device)
        with memory_errors("while the model was opened"):
            compiled = compile_model(model, request, target_device, cached=cache, inputs=inputs)
        self.plan = compiled.plan
        self.fuse, self.channels, self.region = fuse, channels, region
        self.labels, self._label_notice = resolve_labels(labels, self.plan)
        self._preprocessing = choose(preprocess, self.plan.metadata, self.plan.image)
        runs = chunked_runner(compiled, chunk)
        self.runner = Runner(self.plan, runs, compiled.backward, self.method, self.settings)
        self.score_kind = score

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by the arguments and later changes: unpickling opens the model again, from the cache
        if it is there. ModelError for a loaded model, which has no file to open.
        """
        changed = {name: getattr(self, name) for name in CHANGEABLE}
        arguments = {**self._arguments, "model": to_portable(self._arguments["model"])}
        return _rebuild, (arguments,), changed

    @property
    def device(self) -> Device:
        """The device that runs the model."""
        return self.runner.batches.session.device

    @property
    def passes(self) -> int:
        """The number of model inputs that are run per image after the clean one, for progress."""
        return int(self.settings.get("samples", 1))

    @property
    def preprocessing(self) -> Preprocessing:
        """How images are turned into the input of the model."""
        return self._preprocessing.preprocessing

    @preprocessing.setter
    def preprocessing(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = Choice(preprocessing)

    def change_preprocessing(self, **settings: Any) -> None:
        """Replace some settings of the preprocessing (see `image.preprocess.with_overrides`); None changes
        nothing.
        """
        self._preprocessing = with_settings(self._preprocessing, **settings)

    @property
    def preprocessing_notice(self) -> str | None:
        """What is assumed about images because neither the user nor the model specifies it; None if nothing is
        assumed. Arrays count as already preprocessed.
        """
        return notice_of(self._preprocessing, self.plan.image)

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should know about this model and method."""
        notices = [*self.plan.notices, *self.runner.batches.session.notices]
        notices += [self._label_notice] if self._label_notice else []
        if notice := single_logit_notice(self.plan.score.classes, self.labels):
            notices.append(notice)
        if self.method.smooths and self.runner.one_pass_is_enough:
            names = ", ".join(layer.name for layer in self.plan.layers)
            notices.append(
                f"the gradient at {names} does not depend on the image, so all noisy samples give the same "
                "result, and only one was run; for smoothing to have an effect, choose an earlier layer "
                "(`onnxcam layers`)"
            )
        return tuple(notices)

    def __call__(
        self,
        images: ImageSource | Sequence[ImageSource],
        target: Spec | Sequence[Spec] = "top1",
        *,
        channels: Channels | None = None,
        region: Region | None = None,
        progress: ProgressCallback = no_progress,
    ) -> Explanation:
        """Explain one or several images (paths, bytes, PIL images), or arrays that are already preprocessed:
        (C, H, W) or (H, W, C) as the model expects them, or (N, ...).

        `target` is "topK", a class index, a label, a contrast "281-282", or "not 281" for the evidence against
        a class; one for all images, or one per image. `channels` and `region` replace those of the explainer
        for this call. Raises ImageError, TargetError, SettingError and RunError.
        """
        subset = Subset(
            self.channels if channels is None else channels,
            self.region if region is None else region,
        )
        with memory_errors("while images were explained"):
            return self._explain(images, target, subset, progress)

    def _explain(
        self,
        images: ImageSource | Sequence[ImageSource],
        target: Spec | Sequence[Spec],
        subset: Subset,
        progress: ProgressCallback,
    ) -> Explanation:
        explained, tensors, preprocessed = load_inputs(images, self.preprocessing, self.plan.image)
        specs = target_per_image(target, len(tensors))
        results = [
            self._explain_image(tensor, spec, subset, progress)
            for tensor, spec in zip(tensors, specs, strict=True)
        ]
        assumed = self.preprocessing_notice if preprocessed else None
        notices = [assumed, *(result.notice for result in results)]
        layer_maps = np.concatenate([result.layer_map for result in results])
        size = self.plan.image.size_of(tensors[0])
        maps = resize_bilinear(layer_maps, *size).astype(np.float32)
        return Explanation(
            maps=maps,
            layer_maps=layer_maps.astype(np.float32),
            scores=np.array([result.score for result in results]),
            targets=tuple(result.target.name for result in results),
            indices=tuple(result.target.index for result in results),
            target_specs=tuple(result.target.spec for result in results),
            layers=tuple(layer.name for layer in self.plan.layers),
            is_empty=are_empty(maps),
            notices=(*self.notices, *dict.fromkeys(notice for notice in notices if notice)),
            method=self.method.name,
            images=tuple(explained),
            provenance=self._provenance(subset),
            probabilities=join_images([result.probability for result in results]),
        )

    def _explain_image(
        self, image: Floats, spec: Spec, subset: Subset, progress: ProgressCallback
    ) -> ImageResult:
        classes = self.plan.score.classes
        fixed_target = (
            parse_target(spec, classes, self.labels, None) if parse_rank(spec) is None else None
        )
        scores, activations = self._forward(image, fixed_target)
        is_probability = self.score_kind == "probability" or self.plan.score.probability
        middle = 0.5 if is_probability else 0.0  # the score that divides the two sides of one logit
        target = fixed_target or parse_target(spec, classes, self.labels, scores[0], middle)
        settings = self._formula_settings()
        formula = BoundFormula(
            lambda quantities: self.method.formula(**quantities, **settings), subset.select
        )
        with np.errstate(all="ignore"):  # what is not finite is refused below
            layers = self.runner.collect(image, activations, target, progress)
            maps = [formula.formula(formula.select(quantities)) for quantities in layers]
            notice = clear_rounding_errors(
                self.runner, image, target, scores, layers, maps, formula
            )
            fused = maps[0] if len(maps) == 1 else fuse_maps(maps, self.fuse)
            rounded = fused.astype(np.float32)  # may overflow
        self._require_finite([rounded, *(array for values in layers for array in values.values())])
        probability = target_probability(
            self.plan.score, self.plan.explained_tensor, scores, target
        )
        return ImageResult(fused, target, float(target.score(scores)[0]), probability, notice)

    def _require_finite(self, arrays: Sequence[Floats]) -> None:
        if not all(np.isfinite(array).all() for array in arrays):
            names = ", ".join(layer.name for layer in self.plan.layers)
            raise RunError(
                f"{self.plan.name}: values, gradients or the map at {names} are not finite (NaN or infinite); "
                "choose another layer, or check the model's weights and the settings of the method"
            )

    def _forward(self, image: Images, fixed_target: Target | None) -> tuple[Scores, list[Maps]]:
        """The clean pass. If it fails for a model that accepts any size, the error names the size."""
        try:
            return self.runner.forward(image, fixed_target)
        except RunError as error:
            if self.plan.image.height and self.plan.image.width:
                raise
            height, width = self.plan.image.size_of(image)
            raise RunError(
                f"{error} (the input was {height} x {width}; if the model expects another size, set it "
                "with --size)"
            ) from error

    def _formula_settings(self) -> dict[str, Any]:
        """The settings of the formula, without those of the sampler."""
        sampler_settings = self.method.sampler.settings
        return {
            name: value for name, value in self.settings.items() if name not in sampler_settings
        }

    def _provenance(self, subset: Subset) -> dict[str, Any]:
        from onnxcam._version import __version__

        data = {"external_data": self.plan.data} if self.plan.data else {}
        return {
            "model": {"name": self.plan.name, "sha256": self.plan.digest, **data},
            "inputs": {bound.name: bound.to_json() for bound in self.plan.inputs},
            "method": {"name": self.method.name, "settings": dict(self.settings)},
            "score": {"kind": self.score_kind, "tensor": self.plan.explained_tensor},
            "subset": subset.to_json(),
            "fuse": self.fuse,
            "preprocessing": to_dict(self.preprocessing),
            "device": str(self.device),
            "versions": {"onnxcam": __version__, **versions()},
        }


def _rebuild(arguments: dict[str, Any]) -> Explainer:
    return Explainer(**arguments)
