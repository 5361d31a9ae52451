"""Checks of an explainer's arguments: choices, layers, labels, chunk size, and targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from onnxcam.dense import Dense
from onnxcam.errors import SettingError, TargetError
from onnxcam.explain.dense_labels import class_without_label
from onnxcam.image.files_beside import CONFIG, FilesBeside
from onnxcam.image.label_fit import fit_labels
from onnxcam.image.labels import check_labels, metadata_labels, read_labels
from onnxcam.methods import METHODS, QUANTITIES, Method
from onnxcam.methods.method import methods_with
from onnxcam.specs import AUTO, PlanRequest, Score
from onnxcam.targets.classes import DEFAULT_TARGET, Spec

LabelSource: TypeAlias = str | Path | Sequence[str] | Mapping[Any, Any] | None
LayerSource: TypeAlias = str | int | Sequence[str | int]


class Classes(Protocol):
    """What labels depend on: a plan, or a model with its scores."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """That of the model."""

    @property
    def score(self) -> Score:
        """The tensor with the scores."""

    @property
    def dense(self) -> Dense | None:
        """The scores at positions, if there are any."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the scores are called that are no classes."""


def check_choices(method: Method, score: str, fuse: str, chunk: int | None) -> None:
    """SettingError for an unknown kind of score or fusion, a score that the method does not support, or a chunk
    that is not a positive integer or None.
    """
    if chunk is not None and (not isinstance(chunk, (int, np.integer)) or chunk < 1):
        raise SettingError(f"chunk={chunk!r}: expected an integer, 1 or more")
    if score not in ("logit", "exp", "probability"):
        raise SettingError(f"score={score!r}: expected logit, exp or probability")
    if fuse not in ("max", "mean"):
        raise SettingError(f"fuse={fuse!r}: expected max or mean")
    if score == "exp" and "score" not in method.settings:
        supporting = ", ".join(methods_with("score"))
        raise SettingError(
            f"score='exp' weights samples by the exponential of their score, but {method.name} has no such "
            f"samples; choose logit or probability, or a method with samples: {supporting}"
        )


def layer_names(layers: LayerSource) -> tuple[str, ...]:
    """Layers as texts of a plan request: a number is the row of a layer, even if another one is named so."""
    several = [layers] if isinstance(layers, (str, int, np.integer)) else layers
    return tuple(layer if isinstance(layer, str) else f"#{layer}" for layer in several)


def check_scope(
    method: Method, layer: LayerSource, channels: object, region: object, fuse: str
) -> None:
    """SettingError for a layer, feature maps, cells, or a fusion that a method has no use for."""
    is_chosen = layer_names(layer) != (AUTO,)
    if not method.has_layer and (is_chosen or fuse != "max"):
        setting = "layer" if is_chosen else "fuse"
        raise SettingError(
            f"--{setting} does not apply to {method.name}, which has no layer to choose; methods with a layer: "
            f"{_names(lambda other: other.has_layer)}"
        )
    if method.has_subsets or (channels is None and region is None):
        return
    setting = "region" if channels is None else "channels"
    raise SettingError(
        f"--{setting} does not apply to {method.name}, whose map needs all of its tensors; those to which it "
        "applies: "
        f"{_names(lambda other: other.has_subsets)}"
    )


def _names(applies: Callable[[Method], bool]) -> str:
    return ", ".join(name for name, method in METHODS.items() if applies(method))


def path_text(source: object) -> str | None:
    """A path as it was written; None for anything that is not in a file."""
    is_path = isinstance(source, (str, Path)) and source != AUTO
    return str(source) if is_path else None


def check_target_kind(target: tuple[str, ...], request: PlanRequest) -> None:
    """TargetError for a target other than a class where probabilities are explained."""
    is_probability = request.probability or any(
        "probability" in QUANTITIES[name].sources for name in request.quantities
    )
    if target and is_probability:
        raise TargetError(
            f"target {':'.join(target)!r}: only classes have a probability; explain the logit "
            "(--score logit) by a method that takes no probability"
        )


def files_beside(model: object) -> FilesBeside:
    """The files beside a model; none for a model that is not in a file."""
    return FilesBeside(Path(model) if isinstance(model, (str, Path)) else None)


def resolve_labels(
    labels: LabelSource, model: Classes, files: FilesBeside
) -> tuple[tuple[str, ...] | None, str | None]:
    """One name per class, or None if there are no names, and a notice. Labels from the user must fit; labels in
    the model's metadata, or in a file beside it, that do not fit are ignored, and the notice says so.
    """
    classes, nothing = model.score.classes, class_without_label(model.dense)
    if labels is None:
        return None, None
    if isinstance(labels, str) and labels == AUTO:
        names, place = metadata_labels(model.metadata), "the model's metadata"
        if model.names:
            return model.names, None
        if not names:
            names, place = files.labels, f"{CONFIG} beside the model"
        try:
            return fit_labels(names, classes, nothing=nothing) if names else (None, None)
        except SettingError as error:
            hint = "pass labels with --labels, or name classes by number"
            return None, f"the labels in {place} are not used: {error}; {hint}"
    if not isinstance(labels, (str, Path)):
        return fit_labels(check_labels(labels), classes, nothing=nothing)
    return fit_labels(read_labels(labels), classes, f"{labels}: ", nothing)


def target_per_image(target: Spec | Sequence[Spec], count: int) -> list[Spec]:
    """One target for each of `count` images. TargetError or SettingError for anything else."""
    if isinstance(target, (str, int, np.integer)):
        return [target] * count
    if not isinstance(target, Sequence):
        raise TargetError(f"target {target!r}: expected topK, an index, a label, or a list of them")
    if len(target) != count:
        raise SettingError(
            f"the number of targets is {len(target)}, that of images {count}; pass one target for all images, "
            "or one per image"
        )
    return list(target)


def targets_of(target: Spec | Iterable[Spec]) -> Iterator[Spec]:
    """The target of each of any number of images: the same one, or the next. TargetError for anything else."""
    if isinstance(target, (str, int, np.integer)):
        return repeat(target)
    if not isinstance(target, Iterable):
        raise TargetError(
            f"target {target!r}: expected topK, an index, a label, or several of them"
        )
    return iter(target)


def unused_target_notice(method: Method, specs: Sequence[Spec]) -> str | None:
    """A notice about targets that change nothing; None if there are none."""
    named = [str(spec) for spec in specs if spec != DEFAULT_TARGET]
    if method.needs_target or not named:
        return None
    return (
        f"{method.name} gives the same map for every target, so {named[0]!r} changes nothing; methods that "
        "explain a target: see `onnxcam methods`"
    )
