"""Activation maximization: images that a class, a feature map, or a neuron responds to most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from onnxcam.arrays import Array, Floats, Images
from onnxcam.ascent.checkpoint import Checkpoint, checkpoint_of
from onnxcam.ascent.descent import Descent, StepCallback, no_callback, run
from onnxcam.ascent.objectives import Score
from onnxcam.ascent.opened_model import OpenedModel, open_model
from onnxcam.ascent.pixel_range import to_images
from onnxcam.ascent.recipes import maximization, split_arguments
from onnxcam.ascent.result import describe, file_stem, save_result
from onnxcam.ascent.subjects import Subject, open_channels, open_targets
from onnxcam.digests import digest_bytes
from onnxcam.errors import SettingError
from onnxcam.explain.result_files import VISUALIZE
from onnxcam.image.overlay import CELL, sheet, thumbnail
from onnxcam.image.png import encode_png
from onnxcam.methods.subset import Channels, Region, Subset
from onnxcam.specs import AUTO
from onnxcam.targets.classes import Spec

if TYPE_CHECKING:
    from onnxcam.model.model import Model

COLUMNS = 4  # of a sheet


@dataclass(frozen=True)
class Visualization:
    """N images that were made to raise a score.

    Attributes:
        tensor: (N, …) as the model takes it, in its layout and dtype.
        x: (N, C, H, W), gray or RGB, where -1 is black and 1 is white.
        names: of what was maximized, for each image; `specs` select it again: a target, or a feature map.
        seeds: of each image.
        scores: (N,), those of `tensor`.
        history: (steps, N), the scores before each step, of the images as they were moved.
        notices: what a user should know.
        stem: the beginning of the names of the files.
        provenance: what is needed to make the images again, as JSON values.
    """

    tensor: Images
    x: Floats
    names: tuple[str, ...]
    specs: tuple[str, ...]
    seeds: tuple[int, ...]
    scores: Floats
    history: Floats
    notices: tuple[str, ...]
    stem: str
    provenance: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def images(self) -> list[Image.Image]:
        """What preprocessing would turn into `tensor`."""
        return [*to_images(self.x)]

    def sheet(self) -> Image.Image:
        """All images, with their scores."""
        titles = [
            f"{name}: {score:.4g}" for name, score in zip(self.names, self.scores, strict=True)
        ]
        return sheet([thumbnail(image, CELL) for image in self.images], titles, columns=COLUMNS)

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return encode_png(self.sheet())

    def manifest(self) -> dict[str, Any]:
        """What was maximized and how, with the scores, as JSON values."""
        height, width = self.x.shape[2:]
        image = {"name": self.stem, "source": None, "sha256": None, "box": [0, 0, width, height]}
        results = [
            {"name": name, "spec": spec, "seed": seed, "score": float(score)}
            for name, spec, seed, score in zip(
                self.names, self.specs, self.seeds, self.scores, strict=True
            )
        ]
        return describe(self, image, VISUALIZE, results)

    def arrays(self) -> dict[str, Array]:
        """What is in the .npz."""
        return {"tensor": self.tensor, "scores": self.scores, "history": self.history}

    def save(self, folder: str | Path = ".", *, overwrite: bool = False) -> Path:
        """Write STEM.png with all images, STEM.1.png and so on with one, STEM.npz with `tensor`, `scores` and
        `history`, and STEM.json, all or none; returns the first. Files of an earlier result are replaced;
        OutputError for others, unless `overwrite` is True.
        """
        return save_result(self, folder, overwrite=overwrite)


def visualize(
    model: str | Path | bytes | Model,
    target: Spec | Sequence[Spec] | None = None,
    layer: str | int | None = None,
    *,
    channels: Channels | None = None,
    region: Region | None = None,
    checkpoints: str | Path | None = None,
    progress: StepCallback = no_callback,
    **arguments: Any,
) -> Visualization:
    """Images that raise the scores of targets, or the means of feature maps of a layer.

    Args:
        model: path, bytes, ModelProto, or a loaded `Model`.
        target: a class (index, label, contrast "281-282", "not cat"), or several; or one other kind of target.
        layer: instead of a target, the layer whose feature maps `channels` are maximized, in all cells or in
            those of `region` (one neuron: "3:4,5:6").
        checkpoints: a folder in which the state is kept. A later call with the same arguments goes on from it,
            also for more steps.
        progress: gets a `Step` after each one.
        arguments: count, steps, seed and the other settings of `recipes.maximization`; and device, preprocess,
            pixels, labels, output, task, head, inputs and chunk, which are those of an `Explainer`.

    Raises what an `Explainer` raises, SettingError and TargetError for what cannot be maximized,
    UnknownNameError for a setting, and OutputError.
    """
    options, settings = split_arguments(maximization, arguments)
    _require_one_subject(target, layer, channels, region)
    if layer is not None and options.get("labels", AUTO) != AUTO:
        raise SettingError(
            "labels name targets; feature maps of a layer have none, so leave --labels out"
        )
    opened = open_model(model, **options)
    subject = (
        open_targets(opened, _as_list(target))
        if layer is None
        else open_channels(opened, layer, channels, region)
    )
    descent = maximization(opened.size, opened.range.channels, len(subject.names), **settings)
    planned = _Planned(opened, subject, descent, Subset(channels, region), settings)
    keeper = planned.keeper(checkpoints)
    x, history = run(descent, planned.objective, keeper, progress)
    return planned.result(x, history, keeper.notices if keeper else ())


@dataclass(frozen=True)
class _Planned:
    """A visualization before it is run."""

    opened: OpenedModel
    subject: Subject
    descent: Descent
    subset: Subset
    settings: Mapping[str, Any]

    @property
    def objective(self) -> Score:
        """The scores of all images."""
        return Score(self.subject.source, self.subject.weights[self._rows])

    @property
    def _rows(self) -> list[int]:
        """For each image the number of its subject."""
        subjects = len(self.subject.names)
        return [*np.arange(subjects).repeat(len(self.descent.seeds) // subjects)]

    @property
    def stem(self) -> str:
        """The beginning of the names of the files."""
        return file_stem(Path(self.opened.model.name).stem, self.subject.short, VISUALIZE)

    @property
    def provenance(self) -> dict[str, Any]:
        """What is needed to make the images again."""
        subject = {"tensor": self.subject.source.name, **self.subset.to_json()}
        targets = {**subject, "specs": list(self.subject.specs)}
        return self.opened.provenance(targets, self.settings)

    def keeper(self, folder: str | Path | None) -> Checkpoint | None:
        """The file in which the state is kept, if there is a folder for it."""
        if folder is None:
            return None
        contents = [self.opened.content_digest, digest_bytes(self.subject.weights.tobytes())]
        return checkpoint_of(Path(folder), self.stem, {**self.provenance, "contents": contents})

    def result(self, x: Floats, history: Floats, more: tuple[str, ...]) -> Visualization:
        """The visualization with these images, the scores before all steps, and more notices."""
        tensor, subject = self.opened.range.to_model(x), self.subject
        names = tuple(subject.names[row] for row in self._rows)
        notices = (*subject.notices, *self.opened.notices, *subject.source.notices, *more)
        scores = self.objective.of_tensors(tensor)
        constant = _constant_notices(names, np.vstack([history, scores]))
        return Visualization(
            tensor,
            x,
            names,
            tuple(subject.specs[row] for row in self._rows),
            self.descent.seeds,
            scores,
            history,
            tuple(dict.fromkeys([*notices, *constant])),
            self.stem,
            self.provenance,
        )


def _require_one_subject(target: object, layer: object, channels: object, region: object) -> None:
    """SettingError unless either a target is named, or a layer."""
    if (target is None) == (layer is None):
        raise SettingError("name either a target (--target) or a layer (--layer) to visualize")
    if layer is None and not (channels is None and region is None):
        raise SettingError("channels and region belong to a layer; name one with --layer")


def _as_list(target: Spec | Sequence[Spec] | None) -> list[Spec]:
    targets = [target] if isinstance(target, (str, int, np.integer)) else [*(target or ())]
    if not targets:
        raise SettingError("there is no target to visualize; name at least one")
    return targets


def _constant_notices(names: Sequence[str], scores: Floats) -> Iterator[str]:
    """A notice about scores (steps + 1, N) that no step changed."""
    constant = [name for name, row in zip(names, scores.T, strict=True) if np.ptp(row) == 0]
    if constant:
        yield (
            f"the score of {constant[0]} stayed at {scores[0, names.index(constant[0])]:.4g}: no gradient "
            "reached the image; start from stronger noise (--noise) or another --seed, or choose a layer "
            "before it"
        )
