"""The use case: scan images at one layer of a model, against background images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
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
from onnxcam.explain.explainer import Explainer
from onnxcam.explain.inputs import ImageSource, as_sources
from onnxcam.explain.pipeline import ErrorCallback
from onnxcam.explain.result_files import SCAN
from onnxcam.explain.run import ProgressCallback, no_progress
from onnxcam.runtime.session import memory_errors
from onnxcam.scanning.background import FIRST
from onnxcam.scanning.group import ScannedGroup, no_group_progress, scan_group
from onnxcam.scanning.group_scores import GroupCallback
from onnxcam.scanning.reference import Members, Reference
from onnxcam.scanning.scanned_image import ScannedImage
from onnxcam.scanning.search import ascend
from onnxcam.scanning.settings import ScanSettings
from onnxcam.scanning.statistics import STATISTICS
from onnxcam.specs import AUTO

if TYPE_CHECKING:
    from pathlib import Path

    from onnxcam.model.model import Model

MOST_BYTES = 4 << 30  # of the activations of the background
MEMBER = "the image is one of the background, too; it was compared with the others only"
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
        same_class: whether an image is compared only with the background images of its class, as the model
            classifies them.
        restarts, seed: of the search for the most unusual block of feature maps and cells.
        together: whether images will be scanned together, too: activations are kept for the p-values of groups.
        progress: gets the number of background images that were run since the last call.
        on_error: gets the source and the error of background images that fail; by default they are raised.
        arguments: those of `Explainer`: preprocess, device, inputs, …; `labels` only with `same_class`.

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
        same_class: bool = ScanSettings.same_class,
        restarts: int = ScanSettings.restarts,
        seed: int = ScanSettings.seed,
        together: bool = ScanSettings.together,
        **arguments: Any,
    ) -> None:
        self.settings = ScanSettings(
            alpha_max, statistic, tail, same_class, restarts, seed, together
        )
        _require_used(arguments, same_class=same_class)
        self.explainer = open_activations(model, layer, **arguments)
        self.layer = layer_of(self.explainer).name
        if same_class:
            _require_classes(self.explainer)
        self._shape: tuple[int, ...] | None = None
        with memory_errors("while the background images were compared"):
            members = self._read_background(background, progress, on_error)
            self.count = sum(group.activations.count for group in members.values())
            self._references = self._compare(members)

    @property
    def background_scores(self) -> Floats:
        """(B,): the scores of the background images, each compared with the others, class by class."""
        return np.concatenate([reference.scores for reference in self._references.values()])

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
            try:
                self._require_shape(activations)
                scanned = self._scan(activations, provenance)
            except ImageError as error:
                if on_error is None:
                    raise
                on_error(activations.image.source or activations.image.name, error)
                continue
            yield scanned

    def scan_together(
        self, images: Sequence[ScannedImage], progress: GroupCallback = no_group_progress
    ) -> ScannedGroup:
        """The images and nodes that are most unusual together, of images that were scanned before. `progress`
        gets the number of each group of background images that was scored, and their number. SettingError
        without `together`.
        """
        if not self.settings.together:
            raise SettingError("open the scanner with together=True to scan images together")
        with memory_errors("while groups of background images were compared"):
            return scan_group(images, self._references, self.settings, progress)

    def _read_background(
        self,
        images: ImageSource | Iterable[ImageSource],
        progress: ProgressCallback,
        on_error: ErrorCallback | None,
    ) -> dict[int, Members]:
        """The background images by their class, or all of them as class 0."""
        sources = as_sources(images)
        total = len(sources) if isinstance(sources, Sized) else None
        expected = FIRST if total is None else total
        groups: dict[int, Members] = {}
        rows = read_activations(self.explainer, sources, progress=progress, on_error=on_error)
        copies = 2 if self.settings.together else 1
        for count, activations in enumerate(rows, 1):
            self._require_shape(activations)
            nodes, label = activations.activation.size, self._class_of(activations)
            _require_room(nodes, (total or count) * copies, self.layer)
            if label not in groups:
                groups[label] = Members(nodes, FIRST if self.settings.same_class else expected)
            groups[label].add(activations.activation, _keys(activations))
        if not groups:
            raise ImageError("there are no background images; pass images that are usual")
        return groups

    def _compare(self, groups: dict[int, Members]) -> dict[int, Reference]:
        """What images are compared with, of the classes that have enough images."""
        self._counts = {label: group.activations.count for label, group in groups.items()}
        self.settings.require_enough(max(self._counts.values()))
        return {
            label: Reference(group, self.settings)
            for label, group in groups.items()
            if self._counts[label] >= self.settings.needed
        }

    def _class_of(self, activations: ImageActivations) -> int:
        return int(activations.scores.argmax()) if self.settings.same_class else 0

    def _reference_for(self, activations: ImageActivations) -> Reference:
        """ImageError if too few background images have the class of the image."""
        label = self._class_of(activations)
        if label not in self._references:
            labels = self.explainer.labels
            name = labels[label] if labels else f"class {label}"
            raise ImageError(
                f"{activations.image.source or activations.image.name}: is {name} for the model, as "
                f"{self._counts.get(label, 0)} background images are; "
                f"expected {self.settings.needed} or more"
            )
        return self._references[label]

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
        settings, image = self.settings, activations.image
        reference = self._reference_for(activations)
        comparison = reference.compare(activations.activation, _keys(activations))
        channels = len(activations.activation)
        block = ascend(
            comparison.ranks.reshape(channels, -1).T,
            comparison.levels,
            settings.alpha_max,
            STATISTICS[settings.statistic],
            restarts=settings.restarts,
            seed=settings.seed,
        )
        about_member = MEMBER if comparison.is_member else ""
        notices = (*self.explainer.notices, image.notice, about_member)
        return ScannedImage(
            image=image,
            layer=self.layer,
            block=block,
            notices=tuple(notice for notice in notices if notice),
            provenance=provenance,
            label=self._class_of(activations),
            activation=activations.activation if settings.together else None,
            **comparison._asdict(),
        )

    def _provenance(self) -> dict[str, Any]:
        """What all scans have in common, as JSON values."""
        provenance = self.explainer.origin().provenance
        settings = {**self.settings.to_json(), "background": self.count}
        return {
            **{name: provenance[name] for name in provenance if name not in UNUSED},
            "method": {"name": SCAN, "settings": settings},
        }


def _keys(activations: ImageActivations) -> tuple[str, ...]:
    """What tells that two images are the same: the digests of the file and of the activations."""
    digest = digest_bytes(np.ascontiguousarray(activations.activation).tobytes())
    sha256 = activations.image.sha256
    return (digest, *([sha256] if sha256 else []))


def _require_used(arguments: Mapping[str, Any], *, same_class: bool) -> None:
    """SettingError for arguments of an `Explainer` that would change nothing."""
    if "score" in arguments:
        raise SettingError("score: a scan compares activations, and no scores of classes")
    if not same_class and arguments.get("labels", AUTO) != AUTO:
        raise SettingError(
            "labels: name the classes of --same-class (in Python: same_class=True); without it, a scan has none"
        )


def _require_classes(explainer: Explainer) -> None:
    """SettingError for a model that does not give an image one class."""
    plan = explainer.plan
    if plan.task or plan.score.classes < 2:  # a task: scores at positions
        raise SettingError(
            f"{plan.name}: gives an image no single class; compare it with all background images "
            "(same_class=False)"
        )


def _require_room(nodes: int, count: int, layer: str) -> None:
    """SettingError if the activations of so many images do not fit into the memory set aside for them."""
    if nodes * count * 4 > MOST_BYTES:
        raise SettingError(
            f"the activations of {count} background images at {layer} take {nodes * count * 4 / 2**30:.1f} GB; "
            f"pass at most {MOST_BYTES // (4 * nodes)}, or choose a later layer with fewer nodes"
        )
