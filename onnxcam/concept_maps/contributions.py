"""The class score of an image as a sum over concepts: gradient times concept activation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxcam.arrays import Floats
from onnxcam.concept_maps.bars import Bar, draw_bars
from onnxcam.concept_maps.charts import CONTRIBUTIONS, DIGEST, chart_files
from onnxcam.concept_maps.drawing import ConceptPanel
from onnxcam.concept_maps.factorization import project
from onnxcam.concept_maps.source import ConceptSource, as_cells, as_maps
from onnxcam.explain.activations import ImageActivations, read_activations
from onnxcam.explain.explanation import ExplainedImage
from onnxcam.explain.inputs import ImageSource
from onnxcam.explain.result_files import SCHEMA, require_writable, write_files
from onnxcam.image.png import encode_png
from onnxcam.targets.classes import Spec
from onnxcam.targets.target import Target


@dataclass(frozen=True)
class Contributions:
    """A score S as the sum of what K concepts, and what is no concept, contribute to it.

    Attributes:
        image: the image.
        target: what is explained.
        score: S.
        values: (K,), sum_ij <g_ij, H_k> W_ijk, g the gradient of S at the layer, A ~ W H.
        unexplained: sum_ij <g_ij, A_ij - (W H)_ij>, of what the concepts leave of the activation A.
        remainder: S - sum_ij <g_ij, A_ij>. Where the gradient does not depend on the image, as before average
            pooling and a linear layer, it is the bias, but for the rounding of a quantized model.
        is_linear: whether it is.
        maps: (K, h, w), W: where each concept is in the image.
        peaks: (K,), the largest value of each concept over the images in which the concepts were found.
        titles: K names for the chart.
        source: the model.
        digest: of the concepts.
    """

    image: ExplainedImage
    target: Target
    score: float
    values: Floats
    unexplained: float
    remainder: float
    is_linear: bool
    maps: NDArray[np.floating[Any]]
    peaks: Floats
    titles: tuple[str, ...]
    source: ConceptSource
    digest: str = ""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def remainder_name(self) -> str:
        """What the remainder is."""
        return "bias" if self.is_linear else "bias and nonlinearity"

    def parts(self) -> Iterator[tuple[str, float]]:
        """The name and value of each part of the score, the concepts first."""
        for concept, value in enumerate(self.values):
            yield f"concept {concept + 1}", float(value)
        yield "not in the concepts", self.unexplained
        yield self.remainder_name, self.remainder

    def chart(self) -> Image.Image:
        """A bar for each part of the score, largest first, beside the maps of the concepts."""
        parts = [*self.parts()]
        order = np.argsort(-np.abs(self.values), kind="stable")
        bars = [
            Bar(
                self.titles[k],
                parts[k][1],
                ConceptPanel(self.image, self.maps[k], float(self.peaks[k])),
            )
            for k in order
        ]
        bars += [Bar(name, value) for name, value in parts[len(self) :]]
        title = f"{self.target.name.split(',')[0]} {self.score:.2f}"
        return draw_bars(self.image, title, bars)

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return encode_png(self.chart())

    def manifest(self) -> dict[str, Any]:
        """The numbers, and what is needed to compute them again, as JSON values."""
        return {
            "schema": SCHEMA,
            "image": self.image.to_json(),
            "target": {**self.target.to_json(), "score": self.score},
            "layers": [self.source.layer_name],
            DIGEST: self.digest,
            CONTRIBUTIONS: [{"name": name, "value": value} for name, value in self.parts()],
            **self.source.provenance(),
        }

    def save(
        self,
        folder: str | Path = "onnxcam-concepts",
        *,
        name: str | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write `NAME.contributions.png` and its manifest with the suffix .json into a folder, both or neither;
        `name` replaces that of the image. Returns the path of the chart. OutputError as in `Concepts.save`.
        """
        folder = Path(folder)
        files = contribution_files(folder, name or self.image.name)
        require_writable(files, overwrite=overwrite)
        folder.mkdir(parents=True, exist_ok=True)
        write_files(
            {files["overlay"]: encode_png(self.chart())}, files["manifest"], self.manifest()
        )
        return files["overlay"]


def contribution_files(folder: Path, name: str) -> dict[str, Path]:
    """The paths of a chart and its manifest."""
    return chart_files(folder, f"{name}.{CONTRIBUTIONS}")


def read_with_gradient(source: ConceptSource, image: ImageSource, target: Spec) -> ImageActivations:
    """What the layer computes for one image, with the gradient of a target. Raises ImageError, TargetError,
    ModelError and RunError.
    """
    (row,) = read_activations(source.gradients, image, target)
    return row


def contributions_of(
    source: ConceptSource,
    row: ImageActivations,
    directions: Floats,
    peaks: Floats,
    titles: Sequence[str],
) -> Contributions:
    """The parts of one image's score, for concepts with these `directions` (K, C), `peaks` and `titles`."""
    assert row.gradient is not None  # noqa: S101  it was asked for
    assert row.target is not None  # noqa: S101  it has a gradient
    cells = as_cells(row.activation).astype(np.float64)
    slopes = as_cells(row.gradient).astype(np.float64)
    weights = project(np.maximum(cells, 0.0), directions)
    score = float(row.target.score(row.scores))
    values = np.sum((slopes @ directions.T) * weights, axis=0)
    linear, plan = float(np.sum(slopes * cells)), source.gradients.plan
    grid = row.activation.shape[1], row.activation.shape[2]
    return Contributions(
        image=row.image,
        target=row.target,
        score=score,
        values=values,
        unexplained=linear - float(values.sum()),
        remainder=score - linear,
        is_linear=plan.gradient_is_constant and not plan.is_quantized,
        maps=as_maps(weights, grid),
        peaks=peaks,
        titles=tuple(titles),
        source=source,
    )
