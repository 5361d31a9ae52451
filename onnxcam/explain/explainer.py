"""The one use case: a model, a method and pictures in; maps of where the model looked out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxcam.arrays import Floats, Maps, Scores
from onnxcam.errors import RunError, SettingError, TargetError
from onnxcam.explain.cache import get_choice, set_choice
from onnxcam.explain.compile import CompiledModel, compile_model, portable
from onnxcam.explain.evidence import Method, rounding_notice
from onnxcam.explain.explanation import Explanation
from onnxcam.explain.inputs import ImageSource, load_inputs
from onnxcam.explain.run import ProgressCallback, Runner, no_progress
from onnxcam.image.labels import check_labels, fit_labels, metadata_labels, read_labels
from onnxcam.image.preprocess import Preprocessing, to_dict
from onnxcam.image.preprocessing_choice import Choice, change, choose, notice_of
from onnxcam.methods import DEFAULT_METHOD, METHODS
from onnxcam.methods.method import methods_with
from onnxcam.methods.postprocess import empty, fuse_maps, resize_bilinear
from onnxcam.methods.subset import Region, chosen_channels, region_mask, region_to_json, subset
from onnxcam.runtime.chunks import ChunkedRunner, chunked_runner
from onnxcam.runtime.device import device as find_device
from onnxcam.runtime.device import usable_cpus
from onnxcam.runtime.session import memory_errors, versions
from onnxcam.specs import AUTO, SEED, Plan
from onnxcam.targets.classes import Spec, Target, parse_rank, parse_target, single_logit_notice

if TYPE_CHECKING:
    from onnxcam.model.model import Model

CHANGEABLE = ("_preprocessing", "labels", "fuse", "channels", "region")


class Explainer:
    """Explains pictures by one method at one layer (or several) of one model.

    Args:
        model: path, bytes, ModelProto, or a loaded `Model`.
        method: one of `METHODS`.
        layer: "auto", a tensor's name, a unique part of it, or a pattern; or several, whose maps are fused.
        device: "auto", "cpu", "cuda" or "cuda:N", or "cuda+tf32" (factors of eleven bits: faster).
        preprocess: "auto" (what the model's metadata says, else "imagenet"), a preset's name, or a
            `Preprocessing`.
        labels: one name per class: a file (see `image.labels`), a sequence, or a mapping of index to name or
            name to index; "auto": those in the model's metadata.
        output: the tensor with one score per class; by default the output that most likely has them.
        score: "logit" (default), "exp" (see `methods`), or "probability" of the last Softmax or Sigmoid.
        channels, region: which feature maps and neurons count; see `methods.subset`.
        fuse: "max" or "mean" of several layers.
        chunk: how many inputs are run at once; what is fastest is measured, unless given.
        cache: whether to keep the model with its gradients on disk, and to take it from there the next time
            (see `cache.py`); of a path or bytes, not of a `Model`, which may have been changed.
        settings: the method's own (`METHODS[method].settings`): samples, noise, sigma, seed, …

    Raises ModelError, UnknownNameError, SettingError and DeviceError, which say what to do.
    """

    def __init__(
        self,
        model: str | Path | bytes | Model,
        method: str = DEFAULT_METHOD,
        layer: str | Sequence[str] = AUTO,
        *,
        device: str = "auto",
        preprocess: str | Preprocessing = "auto",
        labels: str | Path | Sequence[str] | Mapping[Any, Any] | None = "auto",
        output: str | None = None,
        score: str = "logit",
        channels: str | Sequence[int] | None = None,
        region: Region | None = None,
        fuse: str = "max",
        chunk: int | None = None,
        cache: bool = True,
        **settings: Any,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name != "self"}
        self._arguments = {**arguments.pop("settings"), **arguments}
        self.recipe = METHODS[method]
        _check_choices(method, score, fuse)
        if score == "exp":
            settings["score"] = "exp"
        self.settings = self.recipe.resolve_settings(settings)
        chunk, chosen = _checked_chunk(chunk), find_device(device)
        probable = score == "probability"
        with memory_errors("while the model was opened"):
            found = compile_model(
                model, self.recipe, layer, output, chosen, probability=probable, cached=cache
            )
        self.plan = found.plan
        self.fuse, self.channels, self.region = fuse, channels, region
        self.labels, self._label_notice = _labels(labels, self.plan)
        self._preprocessing = choose(preprocess, self.plan.metadata, self.plan.image)
        runs = _batches(found, chunk)
        self.probe = Runner(self.plan, runs, found.backward, self.recipe, self.settings)
        self.score_kind = score

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by the arguments and later changes: unpickling opens the model again, from the cache
        if it is there. ModelError for a loaded model, which has no file to open.
        """
        changed = {name: getattr(self, name) for name in CHANGEABLE}
        arguments = {**self._arguments, "model": portable(self._arguments["model"])}
        return _rebuild, (arguments,), changed

    @property
    def passes(self) -> int:
        """How many inputs of the model one picture takes behind the first, for progress."""
        return int(self.settings.get("samples", 1))

    @property
    def preprocessing(self) -> Preprocessing:
        """How images are turned into the input of the model."""
        return self._preprocessing.preprocessing

    @preprocessing.setter
    def preprocessing(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = Choice(preprocessing)

    def change_preprocessing(self, **settings: Any) -> None:
        """Replace single settings of the preprocessing (see `image.preprocess.override`); None keeps one."""
        self._preprocessing = change(self._preprocessing, **settings)

    @property
    def preprocessing_notice(self) -> str | None:
        """What is assumed about images because neither the user nor the model says it; None if nothing is.
        Arrays are taken as prepared already.
        """
        return notice_of(self._preprocessing, self.plan.image)

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should know of this model and method."""
        found = [*self.plan.notices, *self.probe.batches.session.notices]
        found += [self._label_notice] if self._label_notice else []
        if notice := single_logit_notice(self.plan.score.classes, self.labels):
            found.append(notice)
        if self.recipe.smooths and self.probe.constant:
            names = ", ".join(each.name for each in self.plan.layers)
            found.append(
                f"the gradient at {names} does not depend on the picture, so all noisy samples agree: one "
                "pass was run instead of many, with the same result; for smoothing to matter choose an "
                "earlier layer (`onnxcam layers`)"
            )
        return tuple(found)

    def __call__(
        self,
        images: ImageSource | Sequence[ImageSource],
        target: Spec | Sequence[Spec] = "top1",
        *,
        progress: ProgressCallback = no_progress,
    ) -> Explanation:
        """Explain one or several pictures (paths, bytes, PIL images), or arrays that are preprocessed
        already: (C, H, W) or (H, W, C) as the model takes them, or (N, ...).

        `target` is "topK", a class index, a label, a contrast "281-282", or "not 281" for the evidence against
        a class; one for all images, or one each. Raises ImageError and TargetError.
        """
        with memory_errors("while images were explained"):
            return self._explanation(images, target, progress)

    def _explanation(
        self,
        images: ImageSource | Sequence[ImageSource],
        target: Spec | Sequence[Spec],
        progress: ProgressCallback,
    ) -> Explanation:
        pictures, tensors, prepared = load_inputs(images, self.preprocessing, self.plan.image)
        assumed = self.preprocessing_notice if prepared else None
        specs = _one_each(target, len(tensors))
        found = [
            self._explained(tensor, spec, progress)
            for tensor, spec in zip(tensors, specs, strict=True)
        ]
        said = [assumed, *(notice for *_, notice in found)]
        coarse = np.concatenate([each[0] for each in found])
        maps = resize_bilinear(coarse, *self.plan.image.size_of(tensors[0])).astype(np.float32)
        return Explanation(
            maps=maps,
            layer_maps=coarse.astype(np.float32),
            scores=np.array([each[2] for each in found]),
            targets=tuple(each[1].name for each in found),
            indices=tuple(each[1].index for each in found),
            target_specs=tuple(each[1].spec for each in found),
            layers=tuple(each.name for each in self.plan.layers),
            is_empty=empty(maps),
            notices=(*self.notices, *dict.fromkeys(notice for notice in said if notice)),
            method=self.recipe.name,
            images=tuple(pictures),
            provenance=self._provenance(),
        )

    def _explained(
        self, image: Floats, spec: Spec, progress: ProgressCallback
    ) -> tuple[Maps, Target, float, str | None]:
        """The coarse map (1, h, w), the target, its score, and a notice if the map is only rounding errors."""
        classes = self.plan.score.classes
        known = parse_target(spec, classes, self.labels, None) if parse_rank(spec) is None else None
        scores, activations = self._clean(image, known)
        probable = self.score_kind == "probability" or self.plan.score.probability
        middle = 0.5 if probable else 0.0  # the score that divides the two sides of a single logit
        chosen = known or parse_target(spec, classes, self.labels, scores[0], middle)
        settings = self._formula()
        method = Method(lambda values: self.recipe.formula(**values, **settings), self._chosen)
        with np.errstate(all="ignore"):  # what is not finite is refused below
            probed = self.probe.collect(image, activations, chosen, progress)
            maps = [method.formula(method.choose(values)) for values in probed]
            notice = rounding_notice(self.probe, image, chosen, scores, probed, maps, method)
            whole = maps[0] if len(maps) == 1 else fuse_maps(maps, self.fuse)
            kept = [whole.astype(np.float32), *(each for one in probed for each in one.values())]
        if not all(np.isfinite(each).all() for each in kept):
            names = ", ".join(each.name for each in self.plan.layers)
            raise RunError(
                f"{self.plan.name}: values or gradients at {names} are not finite (NaN or infinite); "
                "choose another layer, or check the model's weights"
            )
        return whole, chosen, float(chosen.score(scores)[0]), notice

    def _clean(self, image: Floats, known: Target | None) -> tuple[Scores, list[Maps]]:
        """The clean pass. Where it fails on a model whose sizes are free, the size may be why."""
        try:
            return self.probe.forward(image, known)
        except RunError as fault:
            if self.plan.image.height and self.plan.image.width:
                raise
            height, width = self.plan.image.size_of(image)
            raise RunError(
                f"{fault} (it was given {height} x {width}; if it takes another size, choose it with --size)"
            ) from fault

    def _chosen(self, probed: dict[str, Floats]) -> dict[str, Floats]:
        _, channels, height, width = probed["activation"].shape
        mask = region_mask(self.region, channels, (height, width))
        return subset(probed, chosen_channels(self.channels, channels), mask)

    def _formula(self) -> dict[str, Any]:
        """The settings that are the formula's own."""
        sampled = self.recipe.sampler.settings
        return {name: each for name, each in self.settings.items() if name not in sampled}

    def _data(self) -> dict[str, str]:
        return {"external_data": self.plan.data} if self.plan.data else {}

    def _provenance(self) -> dict[str, Any]:
        from onnxcam._version import __version__

        return {
            "model": {"name": self.plan.name, "sha256": self.plan.digest, **self._data()},
            "method": {"name": self.recipe.name, "settings": dict(self.settings)},
            "score": {"kind": self.score_kind, "tensor": self.plan.explained_tensor},
            "subset": {"channels": _plain(self.channels), "region": region_to_json(self.region)},
            "fuse": self.fuse,
            "preprocessing": to_dict(self.preprocessing),
            "device": str(self.probe.batches.session.device),
            "versions": {"onnxcam": __version__, **versions()},
        }


def _rebuild(arguments: dict[str, Any]) -> Explainer:
    return Explainer(**arguments)


def _batches(found: CompiledModel, chunk: int | None) -> ChunkedRunner:
    """The runs of a model; which layout is fastest is remembered beside what the cache has of it."""
    name, what = found.name, f"layouts of {usable_cpus()} processors"
    return chunked_runner(
        found.session,
        found.plan.image.batch,
        chunk,
        frozenset({SEED}),
        found.again,
        get_choice(name, what) if name else None,
        (lambda times: set_choice(name, what, times)) if name else None,
    )


def _labels(
    labels: str | Path | Sequence[str] | Mapping[Any, Any] | None, plan: Plan
) -> tuple[tuple[str, ...] | None, str | None]:
    """One name per class, if there are names, and a notice. Labels from the user must fit; those in the model
    that do not fit are left out, and the notice says so.
    """
    classes = plan.score.classes
    if labels is None:
        return None, None
    if isinstance(labels, str) and labels == AUTO:
        names = metadata_labels(plan.metadata)
        try:
            return fit_labels(names, classes) if names else (None, None)
        except SettingError as error:
            cure = "give others with --labels, or name classes by number"
            return None, f"the labels in the model's metadata are not used: {error}; {cure}"
    if not isinstance(labels, (str, Path)):
        return fit_labels(check_labels(labels), classes)
    return fit_labels(read_labels(labels), classes, f"{labels}: ")


def _check_choices(method: str, score: str, fuse: str) -> None:
    """SettingError for an unknown kind of score or fusion, or a score that the method does not support."""
    if score not in ("logit", "exp", "probability"):
        raise SettingError(f"score={score!r}: expected logit, exp or probability")
    if fuse not in ("max", "mean"):
        raise SettingError(f"fuse={fuse!r}: expected max or mean")
    if score == "exp" and method not in (known := methods_with("score")):
        raise SettingError(
            f"score='exp' weighs noisy samples by the exponential of their score, and {method} has none; "
            f"methods that do: {', '.join(known)}; for {method} choose logit or probability"
        )


def _checked_chunk(chunk: int | None) -> int | None:
    if chunk is None:
        return None
    if not isinstance(chunk, (int, np.integer)) or chunk < 1:
        raise SettingError(f"chunk={chunk!r}: expected a whole number, 1 or more")
    return chunk


def _one_each(target: Spec | Sequence[Spec], count: int) -> list[Spec]:
    if isinstance(target, (str, int, np.integer)):
        return [target] * count
    if not isinstance(target, Sequence):
        raise TargetError(f"target {target!r}: expected topK, an index, a label, or a list of them")
    if len(target) != count:
        raise SettingError(
            f"{len(target)} targets for {count} pictures: give one for all, or one each"
        )
    return list(target)


def _plain(channels: str | Sequence[int] | None) -> Any:
    """Channels as JSON can keep them."""
    return channels if channels is None or isinstance(channels, str) else list(map(int, channels))
