"""The result of an explainer: maps, what they explain, and how they are drawn and saved."""

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
from onnxcam.explain.probabilities import format_score
from onnxcam.explain.result_files import SCHEMA, require_writable, result_files, write_files
from onnxcam.explain.top_channels import TopChannels, draw_channels
from onnxcam.image import overlay as drawing
from onnxcam.image.geometry import Box
from onnxcam.image.overlay import CELL, LONGEST_SIDE
from onnxcam.image.png import encode_png
from onnxcam.targets.target import Mark
from onnxcam.unique_names import make_unique

OPACITY = 0.6  # of the colors of a map over the image
OUTLIERS = 0.005  # of the pixels of a map at the image: they would hide all others
SHEET = 24  # images that a notebook shows of an explanation


@dataclass(frozen=True)
class ExplainedImage:
    """An image that was explained: its name, a function that returns the original, the box (left, top, right,
    bottom) in pixels of the original that the model saw, the path it was read from, the SHA-256 of that file,
    and what a user should know about it.
    """

    name: str
    original: Callable[[], Image.Image]
    box: Box
    source: str | None = None
    sha256: str | None = None
    notice: str = ""

    @cached_property
    def image(self) -> Image.Image:
        """The original. For an array it is drawn on first use."""
        return self.original()

    def to_json(self) -> dict[str, Any]:
        """What a manifest says of where the image is from."""
        return {"name": self.name, "source": self.source, "sha256": self.sha256}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with the pixels themselves, not with the function that makes them."""
        arguments = (self.name, self.image, self.box, self.source, self.sha256, self.notice)
        return _rebuild_image, arguments


def _rebuild_image(
    name: str, image: Image.Image, box: Box, source: str | None, sha256: str | None, notice: str
) -> ExplainedImage:
    return ExplainedImage(name, lambda: image, box, source, sha256, notice)


@dataclass(frozen=True)
class Explanation:
    """N maps and what they explain.

    Attributes:
        maps: (N, H, W) float32 at the size of the input tensor; raw, that is, not rescaled; not negative
            unless `signed`.
        layer_maps: (N, h, w) float32 at the layer's own size (for several layers: fused, at the finest size);
            None for a method at the image.
        scores: (N,) float64, the target's score on the clean image: a logit, or a difference of logits,
            unless a probability was requested; NaN for a method without a target.
        targets: N names: the label, or "class 281"; "any target" for a method without one.
        indices: N class indices (the first class of a contrast); -1 without a target.
        target_specs: N specifications that select the targets again: "281", "281-282", or "not 281".
        layers: the names of the layers.
        is_empty: (N,) bool: maps without evidence, that is, without a cell above 0 (signed maps: without a cell
            other than 0). Maps that are only rounding errors are set to 0, and a notice says so.
        notices: sentences that a user should see.
        method: the name of the method.
        images: the N images.
        provenance: the part of the manifest that is the same for all images.
        signed: whether negative values of the maps are evidence against the target.
        marks: for each image, where the explained score is: a box or an outline; neither for a classifier.
        is_relative: whether only the differences between the cells of a map have a meaning; overlays are then
            drawn from its minimum.
        attributions: (N, C, H, W) float32, the evidence of each channel of each pixel of the input tensor,
            always channels-first and signed; None for a method at a layer.
        probabilities: (N,) float64, the target's probability on the clean image; None if the model's head has
            no probabilities, or the target is not a class.
        facts: for each image, what the method reports about its map by name, such as "completeness_gap"; empty
            if it reports nothing.
        channels: for each image, the feature maps that weigh most in its map; empty unless `top_channels` asked
            for them.
    """

    maps: Saliency
    layer_maps: Saliency | Any  # Any: most methods have them, and need not ask for None
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
    signed: bool = False
    attributions: NDArray[np.float32] | None = None
    probabilities: NDArray[np.float64] | None = None
    facts: tuple[dict[str, float], ...] = ()
    is_relative: bool = False
    marks: tuple[Mark, ...] = ()
    channels: tuple[TopChannels, ...] = ()

    def __len__(self) -> int:
        return len(self.maps)

    def overlay(
        self,
        index: int = 0,
        *,
        colormap: str | None = None,
        opacity: float = OPACITY,
        outliers: float | None = None,
        longest_side: int = LONGEST_SIDE,
        side_by_side: bool = False,
        caption: bool = False,
    ) -> Image.Image:
        """The map of an image, drawn over it; the default color map is "ember", or "polar" for signed maps.

        `outliers` is the fraction of the cells, the largest of all, that are drawn alike; the default is 0 for
        the map of a layer, and 0.005 for that of a method at the image, which holds single pixels. SettingError
        for an unknown or unsuitable color map or a number out of range.
        """
        image = self.images[index]
        if outliers is None:
            outliers = OUTLIERS if self.layer_maps is None else 0.0
        probability = None if self.probabilities is None else self.probabilities[index]
        score = format_score(self.scores[index], probability)
        text = f"{self.targets[index]}{score} · {self.method}" if caption else None
        mark = self.marks[index] if self.marks else Mark()
        saliency = self.maps[index]
        return drawing.overlay(
            image.image,
            saliency - saliency.min() if self.is_relative else saliency,
            image.box,
            signed=self.signed,
            colormap=colormap,
            opacity=opacity,
            outliers=outliers,
            longest_side=longest_side,
            side_by_side=side_by_side,
            caption=text,
            frame=mark.box,
            outline=mark.outline,
            label=self.targets[index] + format_score(probability or self.scores[index], None),
        )

    def channel_sheet(self, index: int = 0) -> Image.Image:
        """The parts of the feature maps that weigh most in the map of an image, each over it, with its number,
        its share of all parts, and its weight. SettingError if they were not asked for.
        """
        if not self.channels:
            raise SettingError(
                "no feature maps were ranked; create the explainer with top_channels"
            )
        image = self.images[index]
        return draw_channels(image.image, image.box, self.channels[index])

    def manifest(self, index: int = 0) -> dict[str, Any]:
        """Everything that is needed to compute the map again, as JSON values."""
        image = self.images[index]
        saliency, facts = self.maps[index], self.facts[index] if self.facts else {}
        return {
            "schema": SCHEMA,
            "image": {**image.to_json(), "box": list(image.box)},
            "target": self._target_to_json(index),
            "layers": list(self.layers),
            "is_empty": bool(self.is_empty[index]),
            "signed": self.signed,
            **({"is_relative": True} if self.is_relative else {}),
            "map": {
                "shape": list(saliency.shape),
                "minimum": float(saliency.min()),
                "maximum": float(saliency.max()),
            },
            **({"facts": {name: _finite(fact) for name, fact in facts.items()}} if facts else {}),
            **({"channels": self.channels[index].to_json()} if self.channels else {}),
            "notices": list(self.notices),
            **self.provenance,
        }

    def _target_to_json(self, index: int) -> dict[str, Any]:
        target = {
            "name": self.targets[index],
            "index": self.indices[index],
            "spec": self.target_specs[index],
            "score": _finite(self.scores[index]),
        }
        if self.probabilities is not None:
            target["probability"] = _finite(self.probabilities[index])
        if self.marks and (box := self.marks[index].box) is not None:
            target["box"] = list(box)
        return target

    def save(
        self,
        folder: str | Path = ".",
        *,
        names: Sequence[str] | None = None,
        overwrite: bool = False,
        **drawing: Any,
    ) -> list[Path]:
        """Write `<name>.<method>.png`, `.npz` and `.json` for each image; returns the .png paths.

        The .npz holds `map` (H, W), `layer_map` (h, w) or, for a method at the image, `attributions` (C, H, W),
        and `score`; the .json is the manifest, with digests of the other two. `names` replaces the names of
        the images; a repeated name gets a number. `drawing` is passed to `overlay`. The three files of an image
        are written completely or not at all; OutputError if that fails. Results of an earlier `save` are
        replaced. Any other file with one of these names raises OutputError before anything is written, unless
        `overwrite` is True. With ranked feature maps, there is a fourth file, `<name>.<method>.channels.png`.
        """
        if names is not None and len(names) != len(self):
            raise SettingError(f"{len(names)} names for {len(self)} images: pass one per image")
        unique_names = make_unique(names or [image.name for image in self.images])
        results = [
            result_files(Path(folder), name, self.method, channels=bool(self.channels))
            for name in unique_names
        ]
        for files in results:
            require_writable(files, overwrite=overwrite)
        for i, files in enumerate(results):
            contents = {
                files["overlay"]: encode_png(self.overlay(i, **drawing)),
                files["map"]: encode_npz(self._arrays(i)),
            }
            if self.channels:
                contents[files["channels"]] = encode_png(self.channel_sheet(i))
            write_files(contents, files["manifest"], self.manifest(i))
        return [files["overlay"] for files in results]

    def _arrays(self, index: int) -> dict[str, Array]:
        """What the .npz of an image holds."""
        stacks = {
            "map": self.maps,
            "layer_map": self.layer_maps,
            "attributions": self.attributions,
            "score": self.scores,
        }
        return {name: stack[index] for name, stack in stacks.items() if stack is not None}

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows: the overlay of one image, or a sheet of several, at most 24."""
        if len(self) < 2:
            return encode_png(self.overlay()) if len(self) else None
        shown = range(min(len(self), SHEET))
        titles = [f"{self.images[i].name}: {self.targets[i]}" for i in shown]
        return encode_png(
            drawing.sheet([self.overlay(i, longest_side=2 * CELL) for i in shown], titles)
        )


def _finite(value: float) -> float | None:
    """The number, or None (JSON's null) for infinity and NaN, which JSON lacks."""
    return float(value) if np.isfinite(value) else None


def encode_npz(arrays: dict[str, Array]) -> bytes:
    """The bytes of a .npz file."""
    buffer = BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # compressing takes 20 times as long
    return buffer.getvalue()
