"""Several images scanned together: the images and nodes that are unusual in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from onnxcam.arrays import Array, Floats
from onnxcam.explain.explanation import SHEET, encode_npz
from onnxcam.explain.result_files import (
    SCAN,
    SCHEMA,
    remove_result,
    require_writable,
    result_files,
    write_results,
)
from onnxcam.image import overlay as drawing
from onnxcam.image.png import encode_png
from onnxcam.scanning.group_scores import (
    LEAST,
    GroupCallback,
    at_levels,
    needed_images,
    p_value,
    score_background_groups,
    score_group,
)
from onnxcam.scanning.reference import Reference
from onnxcam.scanning.scanned_image import ScannedImage
from onnxcam.scanning.search import Mask
from onnxcam.scanning.settings import ScanSettings
from onnxcam.scanning.subset_text import cell_rows, format_channels

NAME = "together"  # of the files
COLORS = ("colormap", "opacity")  # drawing options of a sheet


@dataclass(frozen=True)
class ScannedGroup:
    """The images and nodes whose p-values are most unusual together, as far as ascents find them. It may be a
    single image, if its unusual nodes are not those of others.

    Attributes:
        images: all images that were scanned.
        score: the scan statistic of these images and nodes.
        p_value: of the score, among those of groups of background images; None if there are too few of them.
        alpha: the p-value that counts as unusual for it; not all of the nodes are that unusual on all images.
        members: (N,), which of the images are unusual in common.
        subset: (C, h, w), at which nodes.
        common_score: the scan statistic of all images and the nodes `common` (C, h, w), which are most
            unusual for all of them: exact.
        common_p_value: of that.
        groups: the number of groups of background images.
        notices: sentences that a user should see.
    """

    images: tuple[ScannedImage, ...]
    score: float
    p_value: float | None
    alpha: float
    members: Mask
    subset: Mask
    common_score: float
    common_p_value: float | None
    common: Mask
    groups: int
    notices: tuple[str, ...] = ()

    @cached_property
    def chosen(self) -> list[ScannedImage]:
        """The images that are unusual in common."""
        return [image for image, is_in in zip(self.images, self.members, strict=True) if is_in]

    @cached_property
    def map(self) -> Floats:
        """(h, w) float32: the share of a cell's feature maps that are unusual."""
        return np.asarray(self.subset.mean(axis=0), np.float32)

    @cached_property
    def channels(self) -> list[int]:
        """The numbers of the feature maps with an unusual node."""
        return [int(number) for number in np.flatnonzero(self.subset.any(axis=(1, 2)))]

    def sheet(self, *, colormap: str | None = None, opacity: float = 0.6) -> Image.Image:
        """The map over the images that are unusual in common, at most 24 of them; over the first if none is."""
        shown = (self.chosen or self.images[:1])[:SHEET]
        side = 2 * drawing.CELL
        overlays = [
            drawing.overlay(
                image.image.image,
                self.map,
                image.image.box,
                colormap=colormap,
                opacity=opacity,
                longest_side=side,
            )
            for image in shown
        ]
        return drawing.sheet(overlays, [image.image.name for image in shown])

    def manifest(self) -> dict[str, Any]:
        """Which images and nodes, as JSON values."""
        first = self.images[0]
        listed = [image.image.source or image.image.name for image in self.chosen]
        return {
            "schema": SCHEMA,
            "image": {"name": NAME, "source": None, "sha256": None},
            SCAN: {
                "score": self.score,
                "p_value": self.p_value,
                "common_score": self.common_score,
                "common_p_value": self.common_p_value,
                "background_groups": self.groups,
                "alpha": self.alpha,
                "images": listed,
                "images_scanned": len(self.images),
                "nodes": int(self.subset.sum()),
                "nodes_of_layer": self.subset.size,
                "channels": format_channels(self.channels),
                "cells": cell_rows(np.asarray(self.subset.any(axis=0))),
            },
            "layers": [first.layer],
            "notices": list(self.notices),
            **first.provenance,
        }

    def save(
        self, folder: str | Path = ".", *, overwrite: bool = False, **drawing_options: Any
    ) -> Path:
        """Write `together.scan.png`, `.npz` and `.json`, all or none; returns the path of the .png.
        `drawing_options` are those of `sheet`.
        """
        files = result_files(Path(folder), NAME, SCAN)
        require_writable(files, overwrite=overwrite)
        arrays: dict[str, Array] = {
            "subset": self.subset,
            "members": self.members,
            "map": self.map,
            "common": self.common,
        }
        write_results(
            files, encode_png(self.sheet(**drawing_options)), encode_npz(arrays), self.manifest()
        )
        return files["overlay"]


def no_group_progress(number: int, groups: int) -> None:
    """The default callback: does nothing."""


def scan_group(
    images: Sequence[ScannedImage],
    references: Mapping[int, Reference],
    settings: ScanSettings,
    progress: GroupCallback,
) -> ScannedGroup:
    """The most unusual images and nodes of several images, alternating between both, with p-values."""
    levels = max(image.levels for image in images)
    ranks = np.stack([at_levels(image.ranks, image.levels, levels).ravel() for image in images])
    result, shape = score_group(ranks, levels, settings), images[0].ranks.shape
    notice = _why_no_p_value(images, references)
    others: Floats = np.empty((0, 2))
    if notice is None:
        others = score_background_groups(references, _by_class(images), settings, progress)
    scores = (result.block.score, result.common_score)
    values = [
        None if notice else p_value(score, column)
        for score, column in zip(scores, others.T, strict=True)
    ]
    return ScannedGroup(
        images=tuple(images),
        score=result.block.score,
        p_value=values[0],
        alpha=result.block.rank / levels,
        members=result.block.rows,
        subset=result.block.columns.reshape(shape),
        common_score=result.common_score,
        common_p_value=values[1],
        common=result.common.reshape(shape),
        groups=len(others),
        notices=(notice,) if notice else (),
    )


def _by_class(images: Sequence[ScannedImage]) -> dict[int, Floats]:
    """The activations (n, nodes) of the images of each class."""
    rows: dict[int, list[Floats]] = {}
    for image in images:
        assert image.activation is not None  # noqa: S101  the scanner kept it
        rows.setdefault(image.label, []).append(image.activation.ravel())
    return {label: np.stack(activations) for label, activations in rows.items()}


def _why_no_p_value(
    images: Sequence[ScannedImage], references: Mapping[int, Reference]
) -> str | None:
    """Why the group has no p-value, and what it needs; None if it has one."""
    if any(image.is_member for image in images):
        return "the images together have no p-value: some of them belong to the background; scan others"
    sizes = Counter(image.label for image in images)
    for label, needed in needed_images(sizes).items():
        count = references[label].background.count
        if count < needed:
            of_class = " of the same class" if len(references) > 1 else ""
            return (
                f"the images together have no p-value: {sizes[label]} images{of_class} need {needed} "
                f"background images{of_class}, {LEAST} for each, and there are {count}"
            )
    return None


def remove_group(folder: str | Path) -> None:
    """Remove the files of a group of an earlier run, unless they were changed. OutputError if that fails."""
    remove_result(result_files(Path(folder), NAME, SCAN)["manifest"])


def choose_colors(drawing_options: Mapping[str, Any]) -> dict[str, Any]:
    """Of the drawing options of an image, those of the sheet of a group."""
    return {name: drawing_options[name] for name in COLORS if name in drawing_options}
