"""What an image is maximized for: classes and other targets, or feature maps and neurons of a layer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.ascent.differentiable import Differentiable, differentiable
from onnxcam.ascent.opened_model import OpenedModel
from onnxcam.digests import digest_json
from onnxcam.errors import SettingError, TargetError
from onnxcam.explain.arguments import layer_names
from onnxcam.explain.references import load_numbers
from onnxcam.image.preprocess import prepare
from onnxcam.image.read import read
from onnxcam.methods.subset import Channels, Region, region_mask, region_to_json, select_channels
from onnxcam.rewrite.target_scores import add_target_scores
from onnxcam.spatial.layer_names import find_layers
from onnxcam.specs import Layer
from onnxcam.targets import Target, TargetKind, find_kind
from onnxcam.targets.classes import Spec, parse_rank, parse_target
from onnxcam.targets.kind import REFERENCE


class Subject(NamedTuple):
    """The tensor of which weighted sums are maximized, and for each of several images to be made the name of
    the sum, what selects it again, and its weights (n, …); and a short name of all of them.
    """

    source: Differentiable
    names: tuple[str, ...]
    specs: tuple[str, ...]
    weights: Floats
    short: str
    notices: tuple[str, ...] = ()


def open_targets(opened: OpenedModel, targets: Sequence[Spec]) -> Subject:
    """Classes, contrasts, or one other kind of target. TargetError for what the model does not have."""
    kinds = [None if spec in (opened.labels or ()) else find_kind(spec) for spec in targets]
    matched = [kind for kind in kinds if kind is not None]
    if matched and (len(matched) < len(kinds) or len(targets) > 1):
        raise TargetError(
            f"target {targets[0]!r}: only classes can be visualized together; name other kinds of targets alone"
        )
    if matched:
        return _open_kind(opened, *matched[0])
    scored = opened.scored
    read = [_read_class(opened, spec, scored.score.classes) for spec in targets]
    different = {target.weights.tobytes(): target for target in read}  # "star" and 8 are the same
    source = differentiable(opened, scored.model, scored.score.logits)
    notices = (*scored.model.notices, *([opened.label_notice] if opened.label_notice else []))
    return _subject(source, [*different.values()], notices)


def _read_class(opened: OpenedModel, spec: Spec, classes: int) -> Target:
    if parse_rank(spec) is not None:
        raise TargetError(
            f"target {spec!r}: there is no image yet whose classes could have a rank; name a class"
        )
    if "@" in str(spec) and str(spec) not in (opened.labels or ()):
        raise TargetError(
            f"target {spec!r}: there is no image yet that has places; name the class alone: its score is that "
            "of the best box, or the mean over the pixels"
        )
    return parse_target(spec, classes, opened.labels, None)


def _open_kind(opened: OpenedModel, kind: TargetKind, match: re.Match[str]) -> Subject:
    """A target of another kind than classes."""
    output = opened.head.scores or opened.output
    model, score = add_target_scores(opened.model, (kind.name, *kind.arguments(match)), output)
    source = differentiable(opened, model, score.logits)
    size = opened.range.to_tensor(np.zeros((1, opened.range.channels, *opened.size)))
    shape = source.values(size).shape[1:]
    compared = [_reference(opened, source, match[REFERENCE].strip())] if kind.compares else []
    return _subject(source, [kind.select(match, shape, *compared)])


def _reference(opened: OpenedModel, source: Differentiable, path: str) -> Floats:
    """The numbers in a .npy file, or those of an image."""
    if path.lower().endswith(".npy"):
        return load_numbers(path)
    tensor = np.asarray(prepare(read(path), opened.preprocessing, opened.image).tensor)
    return np.asarray(source.values(tensor.astype(opened.range.tensor_dtype))[0], np.float64)


def _subject(
    source: Differentiable, targets: Sequence[Target], notices: tuple[str, ...] = ()
) -> Subject:
    return Subject(
        source,
        tuple(target.name for target in targets),
        tuple(target.spec for target in targets),
        np.stack([target.weights for target in targets]),
        "+".join(target.name for target in targets),
        (*notices, *(notice for target in targets for notice in target.notices)),
    )


def open_channels(
    opened: OpenedModel, layer: str | int, channels: Channels | None, region: Region | None
) -> Subject:
    """The mean of each of some feature maps of a layer, over all cells or those of a region. SettingError for
    channels or a region that the layer does not have.
    """
    layers = find_layers(opened.layers, layer_names(layer))
    if len(layers) > 1:
        listed = ", ".join(chosen.name for chosen in layers)
        raise SettingError(
            f"layer {layer!r} names {len(layers)} layers ({listed}); name one of them"
        )
    if channels is None:
        raise SettingError(
            f"layer {layers[0].name}: has {layers[0].channels} feature maps; choose some with --channels"
        )
    source = differentiable(opened, opened.model, layers[0].name)
    gray = opened.range.to_tensor(np.zeros((1, opened.range.channels, *opened.size)))
    shape = source.values(gray).shape[1:]
    height, width = opened.size
    numbers, weights = channel_weights(layers[0], shape, channels, region, height / width)
    name = layers[0].name
    cells = _name_region(region)
    names = tuple(f"{name}, feature map {number}{cells}" for number in numbers)
    short = f"{name}-{'+'.join(map(str, numbers))}{cells}"
    return Subject(source, names, tuple(map(str, numbers)), weights, short)


def _name_region(region: Region | None) -> str:
    """The cells of a region, so that images of other ones have other names; nothing for all cells."""
    if region is None:
        return ""
    described = region_to_json(region)
    if isinstance(described, str):
        return f", cells {described}"
    return f", {np.count_nonzero(described)} cells ({digest_json(described)[:8]})"


def channel_weights(
    layer: Layer,
    shape: tuple[int, ...],
    channels: Channels | None,
    region: Region | None,
    aspect_ratio: float,
) -> tuple[list[int], Floats]:
    """The numbers of the chosen feature maps, and for each of them weights (*shape,) of the values of one image
    that add up to its mean over the cells that count.
    """
    indices = np.arange(np.prod(shape)).reshape(1, *shape)
    cells = layer.channels_first(indices, aspect_ratio, np.int64)[0]
    count, grid = len(cells), cells.shape[1:]
    mask = region_mask(region, count, (grid[0], grid[1]))
    counted = np.broadcast_to(np.ones(grid) if mask is None else mask, cells.shape)
    numbers = select_channels(channels, count) or []
    weights = np.zeros((len(numbers), int(np.prod(shape))))
    for row, number in zip(weights, numbers, strict=True):
        chosen = cells[number][counted[number] > 0]
        if not chosen.size:
            raise SettingError(f"region: selects no cell of feature map {number}")
        row[chosen] = 1 / len(chosen)
    return numbers, weights.reshape(len(numbers), *shape)
