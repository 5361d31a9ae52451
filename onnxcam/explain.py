"""The one use case: a model, a method and pictures in; maps of where the model looked out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxcam.arrays import Floats, ImageInput, Maps, Scores
from onnxcam.errors import ModelError, RunError, SettingError, TargetError
from onnxcam.explanation import Explanation
from onnxcam.graph.batch import free_batch
from onnxcam.graph.layout import image_input
from onnxcam.graph.model import Model, load
from onnxcam.image.metadata import from_metadata, labels, read_labels
from onnxcam.image.preprocess import (
    PRESETS,
    Preprocessing,
    describe,
    preset_for,
)
from onnxcam.intake import Source, taken_in
from onnxcam.methods import DEFAULT_METHOD, METHODS
from onnxcam.methods.finish import empty, fused, resized
from onnxcam.methods.subset import Region, chosen_channels, described, region_mask, subset
from onnxcam.methods.targets import Spec, Target, target
from onnxcam.probe import Probe, Progress, silent
from onnxcam.rewrite.plan import AUTO, SEED, plan
from onnxcam.runtime.batch import batches, pictures_do_not_mix
from onnxcam.runtime.device import device as find_device
from onnxcam.runtime.session import Session, versions


class Explainer:
    """Explains pictures by one method at one layer (or several) of one model.

    Args:
        model: path, bytes, ModelProto, or a loaded `Model`.
        method: one of `METHODS`.
        layer: "auto", a tensor's name, a unique part of it, or a pattern; or several, whose maps are fused.
        device: "auto", "cpu", "cuda" or "cuda:N".
        preprocess: "auto" (what the model's metadata says, else "imagenet"), a preset's name, or a
            `Preprocessing`.
        labels: a file or a sequence of class names; "auto": those in the model's metadata.
        output: the tensor with one score a class, where it is not the model's first such output.
        score: "logit" (default), "exp" (see `methods`), or "probability" of the last Softmax or Sigmoid.
        channels, region: which feature maps and neurons count; see `methods.subset`.
        fuse: "max" or "mean" of several layers.
        chunk: how many inputs are run at once; measured while they run unless given.
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
        labels: str | Path | Sequence[str] | None = "auto",
        output: str | None = None,
        score: str = "logit",
        channels: str | Sequence[int] | None = None,
        region: Region | None = None,
        fuse: str = "max",
        chunk: int | None = None,
        **settings: Any,
    ) -> None:
        self.recipe = METHODS[method]
        if score not in ("logit", "exp", "probability") or fuse not in ("max", "mean"):
            raise SettingError(
                f"score={score!r}, fuse={fuse!r}: expected logit, exp or probability; max or mean"
            )
        if score == "exp":
            settings["score"] = "exp"
        self.settings = self.recipe.settled(settings)
        chunk, chosen = _checked_chunk(chunk), find_device(device)
        loaded = model if isinstance(model, Model) else load(model)
        loaded = _free_of_batch(loaded)
        self.plan = plan(loaded, self.recipe, layer, output, probability=score == "probability")
        self.model, self.fuse = self.plan.model, fuse
        self.channels, self.region = channels, region
        self.labels = _labels(labels, self.model)
        self.preprocessing = _preprocessing(preprocess, self.model, self.plan.image)
        content, weights = self.model.parts()
        fixed, blank = self.plan.image.batch, frozenset({SEED})
        runs = batches(content, weights, chosen, fixed, chunk, blank)
        self.probe = Probe(self.plan, runs, self.recipe, self.settings)
        self.score_kind = score

    @property
    def passes(self) -> int:
        """How many inputs of the model one picture takes behind the first, for progress."""
        return int(self.settings.get("samples", 1))

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should know of this model and method."""
        found = [*self.model.notices, *self.probe.batches.session.notices]
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
        images: Source | Sequence[Source],
        target: Spec | Sequence[Spec] = "top1",
        *,
        progress: Progress = silent,
    ) -> Explanation:
        """Explain one or several pictures (paths, bytes, PIL images), or arrays that are preprocessed
        already: (C, H, W) or (H, W, C) as the model takes them, or (N, ...).

        `target` is "topK", a class index, a label, or a contrast "281-282"; one for all pictures, or one
        each. Raises ImageError and TargetError.
        """
        pictures, tensors = taken_in(images, self.preprocessing, self.plan.image)
        specs = _one_each(target, len(tensors))
        found = [
            self._explained(tensor, spec, progress)
            for tensor, spec in zip(tensors, specs, strict=True)
        ]
        coarse = np.concatenate([each[0] for each in found])
        maps = resized(coarse, *self.plan.image.size_of(tensors[0])).astype(np.float32)
        return Explanation(
            maps=maps,
            coarse=coarse.astype(np.float32),
            scores=np.array([each[2] for each in found]),
            targets=tuple(each[1].name for each in found),
            indices=tuple(each[1].index for each in found),
            specs=tuple(each[1].spec for each in found),
            layers=tuple(each.name for each in self.plan.layers),
            empty=empty(maps),
            notices=self.notices,
            method=self.recipe.name,
            pictures=tuple(pictures),
            provenance=self._provenance(),
        )

    def _explained(
        self, image: Floats, spec: Spec, progress: Progress
    ) -> tuple[Maps, Target, float]:
        """The coarse map (1, h, w), the target, and its score."""
        scores, activations = self._clean(image)
        chosen = target(spec, self.plan.score.classes, self.labels, scores[0])
        with np.errstate(all="ignore"):  # what is not finite is refused below
            probed = self.probe.probed(image, activations, chosen, progress)
            maps = [self.recipe.formula(**self._chosen(each), **self._formula()) for each in probed]
            whole = maps[0] if len(maps) == 1 else fused(maps, self.fuse)
            kept = [whole.astype(np.float32), *(each for one in probed for each in one.values())]
        if not all(np.isfinite(each).all() for each in kept):
            names = ", ".join(each.name for each in self.plan.layers)
            raise RunError(
                f"{self.model.name}: values or gradients at {names} are not finite (NaN or infinite); "
                "choose another layer, or check the model's weights"
            )
        return whole, chosen, float(chosen.of(scores)[0])

    def _clean(self, image: Floats) -> tuple[Scores, list[Maps]]:
        """The clean pass. Where it fails on a model whose sizes are free, the size may be why."""
        try:
            return self.probe.clean(image)
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

    def _provenance(self) -> dict[str, Any]:
        from onnxcam import __version__

        return {
            "model": {"name": self.model.name, "sha256": self.model.digest},
            "method": {"name": self.recipe.name, "settings": dict(self.settings)},
            "score": {"kind": self.score_kind, "tensor": self.plan.of},
            "subset": {"channels": _plain(self.channels), "region": described(self.region)},
            "fuse": self.fuse,
            "preprocessing": describe(self.preprocessing),
            "device": str(self.probe.batches.session.device),
            "versions": {"onnxcam": __version__, **versions()},
        }


def _free_of_batch(model: Model) -> Model:
    """The model with a free batch where that is proven by running both; else as it is, with a notice."""
    image = image_input(model)
    if image.batch is None:
        return model
    free = free_batch(model, image.name) if image.batch == 1 else None
    if free is not None and _is_free(model, free, image):
        return free
    notice = f"the model takes exactly {image.batch} picture(s) at a time, so it is run that way"
    return replace(model, notices=(*model.notices, notice))


def _is_free(model: Model, free: Model, image: ImageInput) -> bool:
    """Whether `free` takes any batch, and gives each picture what `model` gives it alone."""
    shape = tuple(model.graph.tensors()[image.name].shape)
    if not all(isinstance(dim, int) for dim in shape):
        return False
    cpu = find_device("cpu")
    content, weights = model.parts()
    single = Session(content, cpu, weights)
    try:
        content, weights = free.parts()
        many = Session(content, cpu, weights)
    except ModelError:
        return False
    return pictures_do_not_mix(single, many, image.name, shape, image.dtype)


def _labels(given: str | Path | Sequence[str] | None, model: Model) -> tuple[str, ...] | None:
    if given == "auto":
        return labels(model.metadata)
    if given is None or isinstance(given, (str, Path)):
        return None if given is None else read_labels(given)
    return tuple(given)


def _preprocessing(given: str | Preprocessing, model: Model, image: ImageInput) -> Preprocessing:
    if isinstance(given, Preprocessing):
        return given
    if given == AUTO:
        return from_metadata(model.metadata) or PRESETS[preset_for(image)]
    return PRESETS[given]


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
