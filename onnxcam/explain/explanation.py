"""What an explainer gives: maps, what they are maps of, and the files that keep them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxcam.arrays import Array, Saliency
from onnxcam.errors import SettingError
from onnxcam.explain.result_files import require_writable, result_files, write_results
from onnxcam.image import overlay as drawing
from onnxcam.image.colormap import DEFAULT as DEFAULT_COLORMAP
from onnxcam.image.preprocess import Box
from onnxcam.unique_names import make_unique


@dataclass(frozen=True)
class ExplainedImage:
    """A picture that was explained: how it is called, what makes the original, and the part of it that the
    model saw.
    """

    name: str
    original: Callable[[], Image.Image]
    box: Box
    source: str | None = None

    @cached_property
    def image(self) -> Image.Image:
        """The original; of an array it is drawn when it is first asked for."""
        return self.original()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with the pixels themselves, not with the function that makes them."""
        return _picture_of, (self.name, self.image, self.box, self.source)


def _picture_of(name: str, image: Image.Image, box: Box, source: str | None) -> ExplainedImage:
    return ExplainedImage(name, lambda: image, box, source)


@dataclass(frozen=True)
class Explanation:
    """N maps and what they are maps of.

    Attributes:
        maps: (N, H, W) float32 at the size of the input tensor; raw: not rescaled, not negative.
        coarse: (N, h, w) float32 at the layer's own size (of several layers: fused, at the finest).
        scores: (N,) float64, the target's score on the clean picture: a logit, or a difference of logits,
            unless a probability was asked for.
        targets: N names: the label, or "class 281".
        indices: N class indices (the first class of a contrast).
        target_specs: N targets as they can be asked for again: "281", "281-282", or "not 281".
        layers: the names of the layers.
        empty: (N,) bool: maps without evidence, no cell above 0. Maps that are only rounding errors are set
            to 0, and a notice says so.
        notices: sentences that a user should see.
    """

    maps: Saliency
    layer_maps: Saliency
    scores: NDArray[np.float64]
    targets: tuple[str, ...]
    indices: tuple[int, ...]
    target_specs: tuple[str, ...]
    layers: tuple[str, ...]
    is_empty: NDArray[np.bool_]
    notices: tuple[str, ...]
    method: str
    images: tuple[ExplainedImage, ...]
    provenance: dict[str, Any]

    def __len__(self) -> int:
        return len(self.maps)

    def overlay(
        self,
        index: int = 0,
        *,
        colormap: str = DEFAULT_COLORMAP,
        opacity: float = 0.6,
        side_by_side: bool = False,
        caption: bool = False,
    ) -> Image.Image:
        """The map of a picture drawn over it. SettingError for a colour map or opacity that is not one."""
        picture = self.images[index]
        text = (
            f"{self.targets[index]} {self.scores[index]:.3g} · {self.method}" if caption else None
        )
        return drawing.overlay(
            picture.image,
            self.maps[index],
            picture.box,
            colormap=colormap,
            opacity=opacity,
            side_by_side=side_by_side,
            caption=text,
        )

    def manifest(self, index: int = 0) -> dict[str, Any]:
        """Everything that is needed to make the map again, for JSON."""
        picture = self.images[index]
        return {
            "picture": {"name": picture.name, "source": picture.source, "box": list(picture.box)},
            "target": {
                "name": self.targets[index],
                "index": self.indices[index],
                "spec": self.target_specs[index],
                "score": float(self.scores[index]),
            },
            "layers": list(self.layers),
            "empty": bool(self.is_empty[index]),
            "map": {
                "shape": list(self.maps[index].shape),
                "maximum": float(self.maps[index].max()),
            },
            "notices": list(self.notices),
            **self.provenance,
        }

    def save(
        self,
        folder: str | Path = ".",
        *,
        names: Sequence[str] | None = None,
        overwrite: bool = False,
        **drawn: Any,
    ) -> list[Path]:
        """Write `<name>.<method>.png`, `.npz` and `.json` for each picture; returns the .png paths.

        The .npz holds `map` (H, W), `coarse` (h, w) and `score`; the .json is the manifest, with digests of
        the other two. `names` replaces the pictures' own; a name that comes again gets a number. `drawn`
        goes to `overlay`. An image's three files are written completely or not at all; OutputError if they
        are not. Results of an earlier `save` are replaced; unless `overwrite`, any other file in their place
        raises OutputError before anything is written.
        """
        if names is not None and len(names) != len(self):
            raise SettingError(f"{len(names)} names for {len(self)} pictures: give one each")
        numbered = make_unique(names or [each.name for each in self.images])
        results = [result_files(Path(folder), name, self.method) for name in numbered]
        for files in results:
            require_writable(files, overwrite=overwrite)
        for i, files in enumerate(results):
            arrays = {"map": self.maps[i], "coarse": self.layer_maps[i], "score": self.scores[i]}
            overlay = _png(self.overlay(i, **drawn))
            write_results(files, overlay, _npz(arrays), self.manifest(i))
        return [files["overlay"] for files in results]


def _png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _npz(arrays: dict[str, Array]) -> bytes:
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
