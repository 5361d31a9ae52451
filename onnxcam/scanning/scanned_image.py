"""The result of a scan of one image: how unusual it is, and which feature maps and cells are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxcam.arrays import Array, Floats
from onnxcam.explain.explanation import ExplainedImage, encode_npz
from onnxcam.explain.result_files import (
    SCAN,
    SCHEMA,
    require_writable,
    result_files,
    write_results,
)
from onnxcam.image import overlay as drawing
from onnxcam.image.png import encode_png
from onnxcam.scanning.search import Block, Mask, Ranks
from onnxcam.scanning.subset_text import cell_rows, format_channels, format_scan_score


@dataclass(frozen=True)
class ScannedImage:
    """How unusual an image is at a layer, compared with background images.

    Attributes:
        image: the image.
        layer: the name of the layer.
        score: the largest scan statistic of all subsets of nodes: exact.
        alpha: the p-value that the nodes of the best subset do not exceed; 0 if it is empty.
        p_value: of the score, among those of the background images, each compared with the others and this one.
        ranks: (C, h, w), the p-values of the nodes, multiplied by `levels`.
        levels: the number of different p-values.
        block: the cells (rows) and feature maps (columns) of the most unusual block of nodes, from an ascent
            that may miss a better one.
        is_member: whether the image belongs to the background, and so was not compared with itself.
        notices: sentences that a user should see.
        provenance: the part of the manifest that is the same for all images.
        label: the class, if images are compared with those of the same class; otherwise 0.
        activation: (C, h, w), of the nodes, if the image is scanned together with others.
    """

    image: ExplainedImage
    layer: str
    score: float
    alpha: float
    p_value: float
    ranks: Ranks
    levels: int
    block: Block
    is_member: bool
    notices: tuple[str, ...]
    provenance: Mapping[str, Any]
    label: int = 0
    activation: NDArray[np.float32] | None = None

    @cached_property
    def p_values(self) -> NDArray[np.float32]:
        """(C, h, w): the empirical p-values of the nodes."""
        return (self.ranks / self.levels).astype(np.float32)

    @cached_property
    def subset(self) -> Mask:
        """(C, h, w): the nodes of the best subset."""
        return np.asarray(self.ranks <= self.alpha * self.levels * (1 + 1e-9))

    @cached_property
    def map(self) -> Floats:
        """(h, w) float32: the share of a cell's feature maps that belong to the best subset, beyond the share
        `alpha` that chance leads to; not below 0.
        """
        excess = self.subset.mean(axis=0) - self.alpha
        return np.maximum(excess, 0.0).astype(np.float32)

    @cached_property
    def channels(self) -> list[int]:
        """The numbers of the feature maps of the most unusual block."""
        return [int(number) for number in np.flatnonzero(self.block.columns)]

    @cached_property
    def cells(self) -> Mask:
        """(h, w): the cells of the most unusual block."""
        return self.block.rows.reshape(self.ranks.shape[1:])

    def overlay(
        self,
        *,
        colormap: str | None = None,
        opacity: float = 0.6,
        longest_side: int = drawing.LONGEST_SIDE,
        side_by_side: bool = False,
        caption: bool = False,
    ) -> Image.Image:
        """The map over the image, with the outline of the cells of the most unusual block. Neither is drawn if
        no cell is more unusual than by chance.
        """
        text = (
            f"p = {self.p_value:.3g} · score {format_scan_score(self.score)} · scan at {self.layer}"
        )
        return drawing.overlay(
            self.image.image,
            self.map,
            self.image.box,
            colormap=colormap,
            opacity=opacity,
            longest_side=longest_side,
            side_by_side=side_by_side,
            caption=text if caption else None,
            outline=self.cells if self.map.any() and self.cells.any() else None,
        )

    def manifest(self) -> dict[str, Any]:
        """What is unusual, and everything that is needed to compute it again, as JSON values."""
        image = self.image
        return {
            "schema": SCHEMA,
            "image": {**image.to_json(), "box": list(image.box)},
            SCAN: self._facts(),
            "layers": [self.layer],
            "is_empty": not self.map.any(),
            "signed": False,
            "map": {
                "shape": list(self.map.shape),
                "minimum": float(self.map.min()),
                "maximum": float(self.map.max()),
            },
            "notices": list(self.notices),
            **self.provenance,
        }

    def _facts(self) -> dict[str, Any]:
        """The scores, and the feature maps and cells in the form of `--channels` and as rows of 0 and 1."""
        return {
            "score": self.score,
            "p_value": self.p_value,
            "alpha": self.alpha,
            "nodes": int(self.subset.sum()),
            "nodes_of_layer": self.subset.size,
            "leaves_itself_out": self.is_member,
            "block_score": self.block.score,
            "block_alpha": self.block.rank / self.levels,
            "channels": format_channels(self.channels),
            "cells": cell_rows(self.cells),
        }

    def save(
        self,
        folder: str | Path = ".",
        *,
        name: str | None = None,
        overwrite: bool = False,
        **drawing_options: Any,
    ) -> Path:
        """Write `<name>.scan.png`, `.npz` and `.json`, all or none; returns the path of the .png.

        The .npz holds `p_values` and `subset` (C, h, w), `map` and `cells` (h, w), `channels`, and `score`; the
        .json is the manifest. OutputError as of `Explanation.save`. `drawing_options` are those of `overlay`.
        """
        files = result_files(Path(folder), name or self.image.name, SCAN)
        require_writable(files, overwrite=overwrite)
        overlay = encode_png(self.overlay(**drawing_options))
        write_results(files, overlay, encode_npz(self._arrays()), self.manifest())
        return files["overlay"]

    def _arrays(self) -> dict[str, Array]:
        return {
            "p_values": self.p_values,
            "subset": self.subset,
            "map": self.map,
            "channels": np.array(self.channels, np.int64),
            "cells": self.cells,
            "score": np.array(self.score),
        }

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return encode_png(self.overlay())
