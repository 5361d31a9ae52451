"""The result of a factorization: concepts with their maps, shares and class scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxcam.arrays import Array, Floats, Images, Scores
from onnxcam.concept_maps.charts import remove_charts_of_others
from onnxcam.concept_maps.class_target import most_frequent_class, read_class
from onnxcam.concept_maps.contributions import (
    Contributions,
    contributions_of,
    read_with_gradient,
)
from onnxcam.concept_maps.drawing import ConceptPanel, ConceptRow, draw_rows
from onnxcam.concept_maps.source import ConceptSource, as_maps
from onnxcam.concept_maps.superpixels import SuperpixelModel, fit_superpixels
from onnxcam.concept_maps.surrogate import PURPOSE, Surrogate, check_surrogate, fit_surrogate
from onnxcam.digests import digest_bytes, digest_json
from onnxcam.explain.activations import ImageActivations
from onnxcam.explain.explanation import ExplainedImage, encode_npz
from onnxcam.explain.inputs import ImageSource
from onnxcam.explain.result_files import SCHEMA, require_writable, write_results
from onnxcam.explain.run import ProgressCallback, no_progress
from onnxcam.image.png import encode_png
from onnxcam.targets.classes import DEFAULT_TARGET, Spec
from onnxcam.targets.target import Target

NAME = "concepts"  # of the files
LoadTensor: TypeAlias = Callable[[], Images]
SMALL = 0.1  # class scores below it are written with a digit that is not 0
LISTED = 3  # classes for and against a concept
NEGLIGIBLE = 0.005  # part of the largest class score of all concepts; less is no evidence


@dataclass(frozen=True)
class Concepts:
    """K concepts of a layer, over N images.

    Attributes:
        source: the model.
        layer: the name of the layer.
        images: the N images.
        grids: height and width in cells of the layer, for each image.
        weights: (cells, K) float32, W: how much of each concept is in each cell, image by image, row by row.
        directions: (K, C) float32, H: the concepts in the space of the C feature maps; of length 1.
        shares: (K,), each concept's part of the sum of all activations.
        error: ||A - W H|| / ||A||.
        clipped: the part of the activations that was negative and counts as 0, by magnitude.
        notices: sentences that a user should see.
        settings: what the factorization was run with.
        best: for each concept the numbers of the images that show it best, the strongest first.
        scores: (N, classes), those of the images.
        tensors: what prepares each image again, as the model takes it.
        effects: (K, classes), the class scores of the concepts: the gradient of each class's score in the
            direction of the concept's part of the activation, the mean over its best images. None for a model
            with scores at positions.
        target: the class, or contrast of classes, of which each concept has `target_scores`, if one was named.
    """

    source: ConceptSource
    layer: str
    images: tuple[ExplainedImage, ...]
    grids: tuple[tuple[int, int], ...]
    weights: NDArray[np.float32]
    directions: NDArray[np.float32]
    shares: Floats
    error: float
    clipped: float
    notices: tuple[str, ...]
    settings: dict[str, Any]
    scores: Scores
    tensors: tuple[LoadTensor, ...]
    best: tuple[tuple[int, ...], ...] = ()
    effects: Scores | None = None
    target: Target | None = None

    def __len__(self) -> int:
        return len(self.directions)

    def maps(self, number: int) -> NDArray[np.float32]:
        """(K, h, w): where each concept is in an image."""
        start = sum(height * width for height, width in self.grids[:number])
        height, width = self.grids[number]
        return as_maps(self.weights[start : start + height * width], (height, width))

    @cached_property
    def peaks(self) -> Floats:
        """(K,): the largest weight of each concept."""
        return np.asarray(self.weights.max(axis=0), np.float64)

    @cached_property
    def digest(self) -> str:
        """Which concepts these are: charts with another one are of other concepts."""
        arrays = {name: digest_bytes(array.tobytes()) for name, array in self._arrays().items()}
        titles = [self._title(concept) for concept in range(len(self))]
        return digest_json({**arrays, "titles": titles})

    @property
    def target_scores(self) -> Floats | None:
        """(K,): the class score of each concept for `target`; None if none was named."""
        if self.target is None or self.effects is None:
            return None
        return self.target.score(self.effects)

    def classes(self, concept: int, *, raises: bool = True) -> list[tuple[int, float]]:
        """The classes whose scores a concept raises (or lowers) most, with its class scores, which are not
        negligible beside those of all concepts.
        """
        if self.effects is None:
            return []
        least = NEGLIGIBLE * float(np.abs(self.effects).max())
        sign = 1 if raises else -1
        order = np.argsort(-sign * self.effects[concept], kind="stable")[:LISTED]
        pairs = [(int(index), float(self.effects[concept, index])) for index in order]
        return [(index, effect) for index, effect in pairs if sign * effect > least]

    def contributions(self, image: ImageSource, target: Spec = DEFAULT_TARGET) -> Contributions:
        """The score of a target on an image as a sum over the concepts. Raises ImageError and TargetError."""
        return self.contributions_of(read_with_gradient(self.source, image, target))

    def contributions_of(self, row: ImageActivations) -> Contributions:
        """The same of an image whose activations, with a gradient, were read before."""
        titles = [self._title(concept) for concept in range(len(self))]
        explained = contributions_of(self.source, row, self.directions, self.peaks, titles)
        return replace(explained, digest=self.digest)

    def surrogate(
        self,
        kind: str = "gam",
        target: Spec = DEFAULT_TARGET,
        *,
        seed: int = 0,
        progress: ProgressCallback = no_progress,
    ) -> Surrogate:
        """An additive model of a target's score over the concepts, fitted by explainable boosting. "top1" is
        the class that is first on most images; `progress` counts images. Raises SettingError and TargetError.
        """
        check_surrogate(kind, len(self.images))
        chosen = read_class(self.source, target, PURPOSE)
        maps = [self.maps(number) for number in range(len(self.images))]
        names = [self._title(concept) for concept in range(len(self))]
        fitted = fit_surrogate(
            self.source,
            chosen or most_frequent_class(self.source, self.scores),
            maps,
            self.directions,
            self.tensors,
            names,
            seed,
            progress,
        )
        return replace(fitted, digest=self.digest)

    def superpixels(
        self, image: ImageSource, target: Spec = DEFAULT_TARGET, **settings: Any
    ) -> SuperpixelModel:
        """An additive model of a target's score over the superpixels of one image; see `fit_superpixels`, whose
        `settings` are segments, count, samples, seed and progress. It does not depend on the concepts.
        """
        return fit_superpixels(
            self.source.model, image, target, **settings, **self.source.arguments
        )

    def sheet(self) -> Image.Image:
        """A row for each concept: the images that show it best, with its maps over them."""
        model = self.source.activations.plan.name
        heading = f"{model} · {self.layer} · {len(self.images)} images"
        return draw_rows(heading, [self._row(concept) for concept in range(len(self))])

    def _row(self, concept: int) -> ConceptRow:
        lines = [f"{100 * self.shares[concept]:.0f} % of the activation"]
        if self.target is not None and self.target_scores is not None:
            name = self.target.name.split(",")[0]
            lines.append(f"{name} {format_effect(self.target_scores[concept])}")
        for word, raises in (("for", True), ("against", False)):
            lines += self._class_texts(word, concept, raises=raises)
        panels = [
            ConceptPanel(self.images[n], self.maps(n)[concept], self.peaks[concept])
            for n in self.best[concept]
        ]
        return ConceptRow(f"concept {concept + 1}", lines, panels)

    def _class_texts(self, word: str, concept: int, *, raises: bool) -> Iterator[str]:
        names = (
            f"{self.source.short_name(index)} {format_effect(effect)}"
            for index, effect in self.classes(concept, raises=raises)
        )
        if text := ", ".join(names):
            yield f"{word} {text}"

    def _title(self, concept: int) -> str:
        """The concept's number, and the class whose score it raises most."""
        name = f"concept {concept + 1}"
        raised = self.classes(concept)
        return f"{name} · {self.source.short_name(raised[0][0])}" if raised else name

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return encode_png(self.sheet())

    def manifest(self) -> dict[str, Any]:
        """What the concepts are, and what is needed to compute them again, as JSON values."""
        return {
            "schema": SCHEMA,
            "image": {"name": f"{len(self.images)} images"},
            "images": [image.to_json() for image in self.images],
            **({} if self.target is None else {"target": self.target.to_json()}),
            "layers": [self.layer],
            "factorization": {
                **self.settings,
                "relative_error": self.error,
                "clipped": self.clipped,
            },
            NAME: [self.record(concept) for concept in range(len(self))],
            "notices": list(self.notices),
            **self.source.provenance(),
        }

    def record(self, concept: int) -> dict[str, Any]:
        """One concept as JSON values."""
        scores = self.target_scores
        return {
            "number": concept + 1,
            "share": float(self.shares[concept]),
            **({} if scores is None else {"score": float(scores[concept])}),
            **{
                name: [
                    {"index": index, "name": self.source.class_name(index), "score": effect}
                    for index, effect in self.classes(concept, raises=raises)
                ]
                for name, raises in (("for", True), ("against", False))
            },
            "best": [self.images[number].name for number in self.best[concept]],
        }

    def save(self, folder: str | Path = "onnxcam-concepts", *, overwrite: bool = False) -> Path:
        """Write `concepts.png`, `concepts.npz` (W, H, the grids and the class scores) and their manifest
        `concepts.json` into a folder, all or none. Returns the path of the sheet.

        OutputError if that fails, or if a file with one of these names was not written by onnxcam, unless
        `overwrite` is True. Charts in the folder that are of other concepts are removed, as long as they are as
        they were written.
        """
        folder = Path(folder)
        files = concept_files(folder)
        require_writable(files, overwrite=overwrite)
        folder.mkdir(parents=True, exist_ok=True)
        write_results(files, encode_png(self.sheet()), encode_npz(self._arrays()), self.manifest())
        remove_charts_of_others(folder, self.digest)
        return files["overlay"]

    def _arrays(self) -> dict[str, Array]:
        arrays: dict[str, Array] = {
            "W": self.weights,
            "H": self.directions,
            "grids": np.array(self.grids, np.int64),
            "images": np.array([image.name for image in self.images]),
        }
        if self.effects is not None:
            arrays["class_scores"] = self.effects
        return arrays


def format_effect(effect: float, decimals: int = 1) -> str:
    """A class score with its sign, and with a digit that is not 0."""
    return f"{effect:{f'+.{decimals}f' if abs(effect) >= SMALL else '+.1g'}}"


def concept_files(folder: Path) -> dict[str, Path]:
    """The paths of the sheet, the arrays, and the manifest."""
    suffixes = {"overlay": ".png", "map": ".npz", "manifest": ".json"}
    return {kind: folder / f"{NAME}{suffix}" for kind, suffix in suffixes.items()}
