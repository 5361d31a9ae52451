"""The use case: scan images at one layer of a model, against background images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.digests import digest_bytes
from onnxcam.errors import ImageError, SettingError
from onnxcam.explain.activations import (
    ImageActivations,
    layer_of,
    open_activations,
    read_activations,
)
from onnxcam.explain.inputs import ImageSource, as_sources
from onnxcam.explain.pipeline import ErrorCallback
from onnxcam.explain.result_files import SCAN
from onnxcam.explain.run import ProgressCallback, no_progress
from onnxcam.runtime.session import memory_errors
from onnxcam.scanning.background import FIRST, Activations, Background
from onnxcam.scanning.scanned_image import ScannedImage
from onnxcam.scanning.search import ascend, histogram, scan_nodes
from onnxcam.scanning.settings import ScanSettings
from onnxcam.scanning.statistics import STATISTICS
from onnxcam.specs import AUTO

if TYPE_CHECKING:
    from pathlib import Path

    from onnxcam.model.model import Model

MOST_BYTES = 4 << 30  # of the activations of the background
UNUSED = {"score", "labels", "subset", "fuse"}  # what a scan does not have


class Scanner:
    """Scans images at one layer of one model, against background images.

    Args:
        model: path, bytes, ModelProto, or a loaded `Model`.
        background: images that are usual, as for an `Explainer`: paths, PIL images, or arrays. The p-value of a
            node among B of them is at least 1 / (B + 1).
        layer: "auto", or a layer as for an `Explainer`.
        alpha_max: the largest p-value of a node that counts as unusual, between 0 and 1.
        statistic: one of `STATISTICS`: "berk-jones" or "higher-criticism".
        tail: "right" if large activations are unusual, "left" if small ones are, or "both".
        restarts, seed: of the search for the most unusual block of feature maps and cells.
        progress: gets the number of background images that were run since the last call.
        on_error: gets the source and the error of background images that fail; by default they are raised.
        arguments: those of `Explainer`: preprocess, device, inputs, …

    Raises the errors of an `Explainer`, ImageError, and SettingError for too few background images.
    """

    def __init__(
        self,
        model: str | Path | bytes | Model,
        background: ImageSource | Iterable[ImageSource],
        layer: str | int = AUTO,
        *,
        progress: ProgressCallback = no_progress,
        on_error: ErrorCallback | None = None,
        alpha_max: float = ScanSettings.alpha_max,
        statistic: str = ScanSettings.statistic,
        tail: str = ScanSettings.tail,
        restarts: int = ScanSettings.restarts,
        seed: int = ScanSettings.seed,
        **arguments: Any,
    ) -> None:
        self.settings = ScanSettings(alpha_max, statistic, tail, restarts, seed)
        self._statistic = STATISTICS[statistic]
        self.explainer = open_activations(model, layer, **arguments)
        self.layer = layer_of(self.explainer).name
        self._shape: tuple[int, ...] | None = None
        self._members: dict[str, int] = {}
        with memory_errors("while the background images were compared"):
            self.background = self._read_background(background, progress, on_error)
        scores = scan_nodes(self.background.histograms, alpha_max, self._statistic)
        self._member_scores = scores.scores

    @property
    def background_scores(self) -> Floats:
        """(B,): the scores of the background images, each compared with the others."""
        return self._member_scores

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should know about the model and its images."""
        about_images = self.explainer.preprocessing_notice
        return (*self.explainer.notices, *([about_images] if about_images else []))

    def stream(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        progress: ProgressCallback = no_progress,
        on_error: ErrorCallback | None = None,
    ) -> Iterator[ScannedImage]:
        """Scan any number of images one after the other, in the memory of a few; see `Explainer.stream`."""
        provenance = self._provenance()
        for activations in read_activations(
            self.explainer, images, progress=progress, on_error=on_error
        ):
            self._require_shape(activations)
            yield self._scan(activations, provenance)

    def _read_background(
        self,
        images: ImageSource | Iterable[ImageSource],
        progress: ProgressCallback,
        on_error: ErrorCallback | None,
    ) -> Background:
        sources = as_sources(images)
        expected = len(sources) if isinstance(sources, Sized) else FIRST
        stored: Activations | None = None
        for activations in read_activations(
            self.explainer, sources, progress=progress, on_error=on_error
        ):
            self._require_shape(activations)
            if stored is None:
                _require_room(activations.activation.size, expected, self.layer)
                stored = Activations(activations.activation.size, expected)
            stored.append(activations.activation)
            for key in _keys(activations):
                self._members.setdefault(key, stored.count - 1)
        if stored is None:
            raise ImageError("there are no background images; pass images that are usual")
        self.settings.require_enough(stored.count)
        return Background(stored.columns, self.settings.tail)

    def _require_shape(self, activations: ImageActivations) -> None:
        """ImageError unless the layer has as many cells as for the images before."""
        shape = activations.activation.shape
        self._shape = self._shape or shape
        if shape != self._shape:
            (height, width), (rows, columns) = shape[1:], self._shape[1:]
            raise ImageError(
                f"{activations.image.name}: {self.layer} has {height} x {width} cells for this image, but "
                f"{rows} x {columns} for the images before; scan images of one size, or set it with --size"
            )

    def _scan(self, activations: ImageActivations, provenance: dict[str, Any]) -> ScannedImage:
        member = next((self._members[k] for k in _keys(activations) if k in self._members), None)
        is_member, settings = member is not None, self.settings
        levels = self.background.levels - is_member
        flat = activations.activation.reshape(1, -1)
        ranks = self.background.ranks(flat, is_member=is_member)
        scores = scan_nodes(histogram(ranks, levels), settings.alpha_max, self._statistic)
        channels = len(activations.activation)
        block = ascend(
            ranks.reshape(channels, -1).T,
            levels,
            settings.alpha_max,
            self._statistic,
            restarts=settings.restarts,
            seed=settings.seed,
        )
        others = self._member_scores if member is None else np.delete(self._member_scores, member)
        score = float(scores.scores[0])
        image = activations.image
        notices = (*self.explainer.notices, image.notice, _member_notice(is_member))
        return ScannedImage(
            image=image,
            layer=self.layer,
            score=score,
            alpha=float(scores.ranks[0] / levels),
            p_value=float((1 + (others >= score * (1 - 1e-12)).sum()) / (len(others) + 1)),
            ranks=ranks.reshape(activations.activation.shape),
            levels=levels,
            block=block,
            is_member=is_member,
            notices=tuple(notice for notice in notices if notice),
            provenance=provenance,
        )

    def _provenance(self) -> dict[str, Any]:
        """What all scans have in common, as JSON values."""
        provenance = self.explainer.origin().provenance
        settings = {**self.settings.to_json(), "background": self.background.count}
        return {
            **{name: provenance[name] for name in provenance if name not in UNUSED},
            "method": {"name": SCAN, "settings": settings},
        }


def _keys(activations: ImageActivations) -> tuple[str, ...]:
    """What tells that two images are the same: the digests of the file and of the activations."""
    digest = digest_bytes(np.ascontiguousarray(activations.activation).tobytes())
    sha256 = activations.image.sha256
    return (digest, *([sha256] if sha256 else []))


def _member_notice(is_member: bool) -> str:
    if not is_member:
        return ""
    return "the image is one of the background, too; it was compared with the others only"


def _require_room(nodes: int, count: int, layer: str) -> None:
    """SettingError if the activations of so many images do not fit into the memory set aside for them."""
    if nodes * count * 4 > MOST_BYTES:
        raise SettingError(
            f"the activations of {count} background images at {layer} take {nodes * count * 4 / 2**30:.1f} GB; "
            f"pass at most {MOST_BYTES // (4 * nodes)}, or choose a later layer with fewer nodes"
        )
