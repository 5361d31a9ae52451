"""`onnxcam.scan`: scan images in one call."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.errors import ImageError, OnnxcamNotice
from onnxcam.explain.inputs import ImageSource
from onnxcam.scanning.group import ScannedGroup, choose_colors, remove_group
from onnxcam.scanning.scanned_image import ScannedImage
from onnxcam.scanning.scanner import Scanner
from onnxcam.specs import AUTO
from onnxcam.unique_names import make_unique

if TYPE_CHECKING:
    from onnxcam.model.model import Model


@dataclass(frozen=True)
class Scan(Sequence[ScannedImage]):
    """Scanned images, the scores (B,) of the background images, and what is unusual in common, if that was
    asked for.
    """

    images: tuple[ScannedImage, ...]
    background_scores: Floats
    group: ScannedGroup | None = None

    def __getitem__(self, index: Any) -> Any:
        return self.images[index]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[ScannedImage]:
        return iter(self.images)

    @property
    def scores(self) -> Floats:
        """(N,): the scores of the images."""
        return np.array([image.score for image in self.images])

    @property
    def p_values(self) -> Floats:
        """(N,): the p-values of these scores."""
        return np.array([image.p_value for image in self.images])

    def save(
        self, folder: str | Path = ".", *, overwrite: bool = False, **drawing: Any
    ) -> list[Path]:
        """Write the files of all images and of the group; returns the .png paths. See `ScannedImage.save`.
        Without a group, that of an earlier run is removed.
        """
        names = make_unique([image.image.name for image in self.images])
        paths = [
            image.save(folder, name=name, overwrite=overwrite, **drawing)
            for image, name in zip(self.images, names, strict=True)
        ]
        if self.group is None:
            remove_group(folder)
            return paths
        colors = choose_colors(drawing)
        return [*paths, self.group.save(folder, overwrite=overwrite, **colors)]


def scan(
    model: str | Path | bytes | Model,
    images: ImageSource | Iterable[ImageSource],
    background: ImageSource | Iterable[ImageSource],
    layer: str | int = AUTO,
    *,
    together: bool = False,
    **arguments: Any,
) -> Scan:
    """How unusual images are at a layer, compared with background images, and which feature maps and cells are.

    `arguments` are those of `Scanner`: alpha_max, statistic, tail, …, and those of `Explainer`. With
    `together`, the images and nodes that are unusual in common are searched, too. Raises the errors of
    `Scanner`.
    """
    scanner = Scanner(model, background, layer, together=together, **arguments)
    scanned = tuple(scanner.stream(images))
    if not scanned:
        raise ImageError("there are no images to scan; pass at least one")
    for notice in dict.fromkeys(notice for image in scanned for notice in image.notices):
        warnings.warn(notice, OnnxcamNotice, stacklevel=2)
    group = scanner.scan_together(scanned) if together else None
    for notice in group.notices if group else ():
        warnings.warn(notice, OnnxcamNotice, stacklevel=2)
    return Scan(scanned, scanner.background_scores, group)
