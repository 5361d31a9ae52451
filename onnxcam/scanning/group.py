"""Several images scanned together: the images and nodes that are unusual in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
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
from onnxcam.scanning.scanned_image import ScannedImage
from onnxcam.scanning.search import Mask, ascend
from onnxcam.scanning.settings import ScanSettings
from onnxcam.scanning.statistics import STATISTICS
from onnxcam.scanning.subset_text import cell_rows, format_channels

NAME = "together"  # of the files
COLORS = ("colormap", "opacity")  # drawing options of a sheet


@dataclass(frozen=True)
class ScannedGroup:
    """The images and nodes whose p-values are most unusual together, as far as ascents find them. It may be a
    single image, if its unusual nodes are not those of others.

    Attributes:
        images: all images that were scanned.
        score: the scan statistic of these images and nodes. It has no p-value.
        alpha: the p-value that counts as unusual for it; not all of the nodes are that unusual on all images.
        members: (N,), which of the images are unusual in common.
        subset: (C, h, w), at which nodes.
    """

    images: tuple[ScannedImage, ...]
    score: float
    alpha: float
    members: Mask
    subset: Mask

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
                "alpha": self.alpha,
                "images": listed,
                "images_scanned": len(self.images),
                "nodes": int(self.subset.sum()),
                "nodes_of_layer": self.subset.size,
                "channels": format_channels(self.channels),
                "cells": cell_rows(np.asarray(self.subset.any(axis=0))),
            },
            "layers": [first.layer],
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
        arrays: dict[str, Array] = {"subset": self.subset, "members": self.members, "map": self.map}
        write_results(
            files, encode_png(self.sheet(**drawing_options)), encode_npz(arrays), self.manifest()
        )
        return files["overlay"]


def scan_together(images: Sequence[ScannedImage], settings: ScanSettings) -> ScannedGroup:
    """The most unusual images and nodes of several images, alternating between both."""
    levels = max(image.levels for image in images)
    ranks = np.stack([_at_levels(image, levels).ravel() for image in images])
    block = ascend(
        ranks,
        levels,
        settings.alpha_max,
        STATISTICS[settings.statistic],
        restarts=settings.restarts,
        seed=settings.seed,
    )
    return ScannedGroup(
        images=tuple(images),
        score=block.score,
        alpha=block.rank / levels,
        members=block.rows,
        subset=block.columns.reshape(images[0].ranks.shape),
    )


def _at_levels(image: ScannedImage, levels: int) -> NDArray[np.integer]:
    """The ranks of the p-values among as many levels, rounded up: members of the background have one less."""
    return -(-image.ranks.astype(np.int64) * levels // image.levels)


def remove_group(folder: str | Path) -> None:
    """Remove the files of a group of an earlier run, unless they were changed. OutputError if that fails."""
    remove_result(result_files(Path(folder), NAME, SCAN)["manifest"])


def choose_colors(drawing_options: Mapping[str, Any]) -> dict[str, Any]:
    """Of the drawing options of an image, those of the sheet of a group."""
    return {name: drawing_options[name] for name in COLORS if name in drawing_options}
