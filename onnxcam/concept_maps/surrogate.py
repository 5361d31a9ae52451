"""A simpler model of a class score: a sum of shape functions of how much of each concept is in an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from onnxcam.arrays import Floats, Images, Maps
from onnxcam.concept_maps.additive_model import (
    AdditiveModel,
    explained_variance,
    fit_additive_model,
    require_boosting,
)
from onnxcam.concept_maps.charts import DIGEST, SURROGATE, chart_files
from onnxcam.concept_maps.curves import Curve, draw_curves
from onnxcam.concept_maps.source import ConceptSource
from onnxcam.concept_maps.tail import shifted_scores
from onnxcam.errors import SettingError
from onnxcam.explain.result_files import SCHEMA, require_writable, write_files
from onnxcam.explain.run import ProgressCallback, no_progress
from onnxcam.image.png import encode_png
from onnxcam.targets.target import Target

PURPOSE = "an additive model"  # what needs a class, in errors
SURROGATES = ("gam",)
LEAST_IMAGES = 24
HELD_OUT = 4  # one of so many images is not fitted
COPIES = 16  # of each image, the first of which is the image itself


@dataclass(frozen=True)
class Surrogate:
    """An additive model of a target's score over the concepts of images.

    Attributes:
        target: what is explained.
        model: the intercept and a shape function for each concept.
        features: (n, K), the mean weight of each concept over the cells of an image, of the images themselves.
        scores: (n,), those of the network.
        is_held_out: (n,), whether the additive model was fitted without an image.
        r2: the part of the scores' variance that it explains on the images that it was not fitted on.
        r2_copies: the same on their copies, in which concepts are weaker or missing.
        r2_fitted: the same on what it was fitted on.
        source: the concepts' model.
        settings: what it was fitted with.
        digest: of the concepts.
    """

    target: Target
    model: AdditiveModel
    features: Floats
    scores: Floats
    is_held_out: Any
    r2: float
    r2_copies: float
    r2_fitted: float
    source: ConceptSource
    settings: dict[str, Any]
    digest: str = ""

    def chart(self) -> Image.Image:
        """The shape function of each concept, over the range that it has on the images."""
        held_out = int(self.is_held_out.sum())
        heading = (
            f"{self.target.name.split(',')[0]} = {self.model.intercept:.2f} + the sum of these curves · R2 = "
            f"{self.r2:.2f} on {held_out} images that were not fitted, {self.r2_copies:.2f} on their copies"
        )
        curves = [
            Curve(f.name, f.cuts, f.values, self.features[:, k])
            for k, f in enumerate(self.model.functions)
        ]
        return draw_curves(heading, curves)

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return encode_png(self.chart())

    def manifest(self) -> dict[str, Any]:
        """The additive model, and what is needed to compute it again, as JSON values."""
        return {
            "schema": SCHEMA,
            "image": {"name": f"{len(self.scores)} images"},
            "target": self.target.to_json(),
            "layers": [self.source.layer_name],
            DIGEST: self.digest,
            SURROGATE: {
                **self.settings,
                **self.record(),
                "intercept": self.model.intercept,
                "functions": [
                    {"name": f.name, "cuts": f.cuts.tolist(), "values": f.values.tolist()}
                    for f in self.model.functions
                ],
            },
            **self.source.provenance(),
        }

    def record(self) -> dict[str, Any]:
        """How well the additive model fits, as JSON values."""
        return {
            "r2": self.r2,
            "r2_copies": self.r2_copies,
            "r2_fitted": self.r2_fitted,
            "images": len(self.scores),
            "held_out": int(self.is_held_out.sum()),
        }

    def save(self, folder: str | Path = "onnxcam-concepts", *, overwrite: bool = False) -> Path:
        """Write `surrogate.png` and its manifest `surrogate.json` into a folder, both or neither. Returns the
        path of the chart. OutputError as in `Concepts.save`.
        """
        folder = Path(folder)
        files = surrogate_files(folder)
        require_writable(files, overwrite=overwrite)
        folder.mkdir(parents=True, exist_ok=True)
        content = {files["overlay"]: encode_png(self.chart())}
        write_files(content, files["manifest"], self.manifest())
        return files["overlay"]


def surrogate_files(folder: Path) -> dict[str, Path]:
    """The paths of the chart and its manifest."""
    return chart_files(folder, SURROGATE)


def check_surrogate(name: str, images: int) -> None:
    """SettingError for an unknown kind, a missing package, or too few images."""
    if name not in SURROGATES:
        raise SettingError(f"surrogate {name!r}: expected {', '.join(SURROGATES)}")
    require_boosting()
    if images < LEAST_IMAGES:
        raise SettingError(
            f"an additive model needs {LEAST_IMAGES} images or more, of which every {HELD_OUT}th is held out; "
            f"there are {images}"
        )


def fit_surrogate(
    source: ConceptSource,
    target: Target,
    maps: Sequence[Maps],
    directions: Floats,
    tensors: Sequence[Callable[[], Images]],
    names: Sequence[str],
    seed: int,
    progress: ProgressCallback = no_progress,
) -> Surrogate:
    """The additive model of a target's score for images with these `maps` (K, h, w) of concepts.

    Few images are no obstacle to many samples: of each image there are copies in which concepts are weaker or
    missing, A - sum_k (1 - s_k) W_k H_k with s_k = 1 (half of the time) or uniform in 0 to 1, and the network
    after the layer computes their scores.
    """
    draw = np.random.default_rng(seed)
    runner, features, scores = source.tail.runner, [], []
    for concepts, load in zip(maps, tensors, strict=True):
        count = len(concepts)
        shares = np.where(draw.random((COPIES, count)) < 0.5, 1.0, draw.random((COPIES, count)))
        shares[0] = 1.0
        removed = np.einsum("sk,khw,kc->schw", 1 - shares, concepts, directions)
        shifted = shifted_scores(runner, load(), removed, np.full(COPIES, -1.0))
        scores.append(target.score(shifted))
        features.append(shares * concepts.mean(axis=(1, 2)))
        progress(1)
    return _fit(source, target, np.array(features), np.array(scores), names, seed)


def _fit(
    source: ConceptSource,
    target: Target,
    features: Floats,
    scores: Floats,
    names: Sequence[str],
    seed: int,
) -> Surrogate:
    """The additive model of features (n, copies, K) and scores (n, copies); some of the images are held out."""
    order = np.random.default_rng(seed).permutation(len(scores))
    is_held_out = np.isin(np.arange(len(scores)), order[::HELD_OUT])
    count = features.shape[2]
    fitted = features[~is_held_out].reshape(-1, count), scores[~is_held_out].ravel()
    copies = features[is_held_out].reshape(-1, count), scores[is_held_out].ravel()
    model = fit_additive_model(*fitted, names, seed)
    alone = features[is_held_out, 0], scores[is_held_out, 0]
    return Surrogate(
        target=target,
        model=model,
        features=features[:, 0],
        scores=scores[:, 0],
        is_held_out=is_held_out,
        r2=explained_variance(alone[1], model(alone[0])),
        r2_copies=explained_variance(copies[1], model(copies[0])),
        r2_fitted=explained_variance(fitted[1], model(fitted[0])),
        source=source,
        settings={"kind": SURROGATES[0], "seed": seed, "copies": COPIES},
    )
