"""What an explainer gives: maps, what they are maps of, and the files that keep them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxcam.arrays import Array, Saliency
from onnxcam.errors import SettingError
from onnxcam.files import write_together
from onnxcam.image import overlay as drawing
from onnxcam.image.colormap import DEFAULT as DEFAULT_COLORMAP
from onnxcam.image.preprocess import Box


@dataclass(frozen=True)
class Picture:
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
        specs: N targets as they can be asked for again: "281", "281-282", or "not 281".
        layers: the names of the layers.
        empty: (N,) bool: maps that carry no evidence, no cell above 0.
        notices: sentences that a user should see.
    """

    maps: Saliency
    coarse: Saliency
    scores: NDArray[np.float64]
    targets: tuple[str, ...]
    indices: tuple[int, ...]
    specs: tuple[str, ...]
    layers: tuple[str, ...]
    empty: NDArray[np.bool_]
    notices: tuple[str, ...]
    method: str
    pictures: tuple[Picture, ...]
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
        picture = self.pictures[index]
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
        picture = self.pictures[index]
        return {
            "picture": {"name": picture.name, "source": picture.source, "box": list(picture.box)},
            "target": {
                "name": self.targets[index],
                "index": self.indices[index],
                "spec": self.specs[index],
                "score": float(self.scores[index]),
            },
            "layers": list(self.layers),
            "empty": bool(self.empty[index]),
            "map": {
                "shape": list(self.maps[index].shape),
                "maximum": float(self.maps[index].max()),
            },
            "notices": list(self.notices),
            **self.provenance,
        }

    def save(
        self, folder: str | Path = ".", *, names: Sequence[str] | None = None, **drawn: Any
    ) -> list[Path]:
        """Write `<name>.<method>.png`, `.npz` and `.json` for each picture; returns the .png paths.

        The .npz holds `map` (H, W), `coarse` (h, w) and `score`. `names` replaces the pictures' own; a
        name that comes again gets a number. `drawn` goes to `overlay`. A picture's three files are there
        whole or not at all; OutputError where they are not.
        """
        if names is not None and len(names) != len(self):
            raise SettingError(f"{len(names)} names for {len(self)} pictures: give one each")
        paths = []
        for i, name in enumerate(_numbered(names or [each.name for each in self.pictures])):
            stem = Path(folder) / f"{name}.{self.method}"
            arrays = {"map": self.maps[i], "coarse": self.coarse[i], "score": self.scores[i]}
            paths.append(_save(stem, self.overlay(i, **drawn), arrays, self.manifest(i)))
        return paths


def _numbered(names: Sequence[str]) -> list[str]:
    """The names, each once; cat and Cat are one file on some disks."""
    found: dict[str, str] = {}
    for name in names:
        tried = name
        for number in count(2):
            if tried.lower() not in found:
                break
            tried = f"{name}-{number}"
        found[tried.lower()] = tried
    return list(found.values())


def _save(
    stem: Path, drawn: Image.Image, arrays: dict[str, Array], manifest: dict[str, Any]
) -> Path:
    path = stem.with_name(stem.name + ".png")
    picture, packed = BytesIO(), BytesIO()
    drawn.save(picture, format="PNG")
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    contents = {
        path: picture.getvalue(),
        stem.with_name(stem.name + ".npz"): packed.getvalue(),
        # a file name that is not text comes as lone surrogates, and leaves as JSON's \udcXX
        stem.with_name(stem.name + ".json"): text.encode("utf-8", "backslashreplace"),
    }
    write_together(contents)
    return path
