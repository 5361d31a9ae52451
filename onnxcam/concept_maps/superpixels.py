"""A simpler model of a score on one image: a sum of shape functions of how much of each superpixel is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from onnxcam.arrays import Floats, Images, Maps
from onnxcam.concept_maps.additive_model import (
    AdditiveModel,
    explained_variance,
    fit_additive_model,
    require_boosting,
)
from onnxcam.concept_maps.charts import chart_files
from onnxcam.concept_maps.curves import Curve
from onnxcam.concept_maps.superpixel_chart import draw_superpixels
from onnxcam.errors import SettingError
from onnxcam.explain.arguments import targets_of
from onnxcam.explain.block import Block
from onnxcam.explain.explainer import Explainer
from onnxcam.explain.explanation import ExplainedImage
from onnxcam.explain.inputs import ImageSource, as_sources, input_loaders
from onnxcam.explain.pipeline import load_steps, successful
from onnxcam.explain.result_files import SCHEMA, require_writable, write_files
from onnxcam.explain.run import ProgressCallback, no_progress
from onnxcam.image.png import encode_png
from onnxcam.methods import METHODS, Samples
from onnxcam.methods.baselines import BASELINES
from onnxcam.methods.samplers.masks import hide
from onnxcam.methods.samplers.sampler import CleanRun, Tabulated
from onnxcam.methods.samplers.segments import Labels, Segmentation, find_segments
from onnxcam.targets.classes import DEFAULT_TARGET, Spec
from onnxcam.targets.target import Target

NAME = "superpixels"  # of the files, and a key of manifests
SUPERPIXELS, SAMPLES, LEAST_SAMPLES = 16, 800, 64
HELD_OUT = 4  # one of so many samples is not fitted
UNUSED = ("method", "subset", "fuse", "layers")  # of a map


class Shown(NamedTuple):
    """Samples of an image: the number of the superpixel of each pixel, `labels` (H, W), how much of each
    superpixel is shown, `shares` (n, K), and the target's `scores` (n,). The first sample is the image.
    """

    labels: Labels
    shares: Floats
    scores: Floats
    target: Target
    notices: tuple[str, ...]


@dataclass(frozen=True)
class SuperpixelModel:
    """An additive model of a target's score on an image: a function of how much of each superpixel is shown,
    from 0 (blurred) to 1.

    Attributes:
        image: the image.
        shown: the superpixels and the samples.
        model: the intercept and a shape function for each superpixel.
        r2: the part of the scores' variance that it explains on the samples that it was not fitted on.
        r2_linear: the same of a linear model of the same samples.
        settings: what it was fitted with.
        provenance: what was run, as JSON values.
    """

    image: ExplainedImage
    shown: Shown
    model: AdditiveModel
    r2: float
    r2_linear: float
    settings: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def target(self) -> Target:
        """What is explained."""
        return self.shown.target

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should know."""
        return self.shown.notices

    @property
    def effects(self) -> Floats:
        """(K,): by how much the score rises if a blurred superpixel is shown."""
        ends = np.ones((1, len(self.model.functions)))
        return np.asarray((self.model.parts(ends) - self.model.parts(0 * ends))[0])

    @property
    def map(self) -> Floats:
        """(H, W): at each pixel the effect of its superpixel."""
        return self.effects[self.shown.labels]

    def chart(self) -> Image.Image:
        """The effects over the image, with the numbers of the superpixels, and the shape functions."""
        name, score = self.target.name.split(",")[0], self.shown.scores[0]
        heading = (
            f"{name} {score:.2f}, about {self.model.intercept:.2f} + a curve for each superpixel · R2 = "
            f"{self.r2:.2f} on samples that were not fitted, {self.r2_linear:.2f} for lines"
        )
        curves = [
            Curve(f.name, f.cuts, f.values, self.shown.shares[:1, k])
            for k, f in enumerate(self.model.functions)
        ]
        return draw_superpixels(heading, self.image, self.shown.labels, self.effects, curves)

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return encode_png(self.chart())

    def manifest(self) -> dict[str, Any]:
        """The additive model, and what is needed to compute it again, as JSON values."""
        return {
            "schema": SCHEMA,
            "image": self.image.to_json(),
            "target": {**self.target.to_json(), "score": float(self.shown.scores[0])},
            NAME: {
                **self.settings,
                **self.record(),
                "intercept": self.model.intercept,
                "functions": [
                    {"name": f.name, "cuts": f.cuts.tolist(), "values": f.values.tolist()}
                    for f in self.model.functions
                ],
                "effects": self.effects.tolist(),
            },
            "notices": list(self.notices),
            **self.provenance,
        }

    def record(self) -> dict[str, Any]:
        """How well the additive model fits, as JSON values."""
        return {"r2": self.r2, "r2_linear": self.r2_linear, "samples": len(self.shown.scores)}

    def save(
        self,
        folder: str | Path = "onnxcam-concepts",
        *,
        name: str | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write `NAME.superpixels.png` and its manifest with the suffix .json into a folder, both or neither;
        `name` replaces that of the image. Returns the path of the chart. OutputError as in `Concepts.save`.
        """
        files = superpixel_files(Path(folder), name or self.image.name)
        require_writable(files, overwrite=overwrite)
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_files(
            {files["overlay"]: encode_png(self.chart())}, files["manifest"], self.manifest()
        )
        return files["overlay"]


def superpixel_files(folder: Path, name: str) -> dict[str, Path]:
    """The paths of a chart and its manifest."""
    return chart_files(folder, f"{name}.{NAME}")


def fit_superpixels(
    model: Any,
    image: ImageSource,
    target: Spec = DEFAULT_TARGET,
    *,
    segments: Segmentation = "slic",
    count: int = SUPERPIXELS,
    samples: int = SAMPLES,
    seed: int = 0,
    progress: ProgressCallback = no_progress,
    **arguments: Any,
) -> SuperpixelModel:
    """The additive model of a target's score over about `count` superpixels of an image, or cells of a "grid".

    The model is run on `samples` copies of the image, of which each superpixel is shown (half of the time), or
    blurred to a random degree: x s + b (1 - s), b being the image under a wide blur. Where a single degree
    stands for all others, this is a linear model, as in LIME; the shape functions tell how much of a superpixel
    is needed. `arguments` are those of `Explainer`. Raises its errors, and SettingError without the package
    that fits additive models.
    """
    require_boosting()
    if count < 1 or samples < LEAST_SAMPLES:
        raise SettingError(
            f"count={count}, samples={samples}: expected 1 superpixel or more, and {LEAST_SAMPLES} samples or "
            "more"
        )
    settings = {"segments": segments, "count": count, "samples": samples, "seed": seed}
    explainer = Explainer(model, _method_of_image_samples(), **arguments)
    loads = load_steps(
        input_loaders(as_sources(image), explainer.preprocessing, explainer.plan.image),
        targets_of(target),
        explainer.expand,
    )

    def compute(
        block: Block,
        images: Images,
        specs: Sequence[Spec],
        shown: Sequence[ExplainedImage],
        report: ProgressCallback,
    ) -> _Rows:
        clean, targets = block.clean_pass(images, specs, shown)
        rows = []
        for number, chosen in enumerate(targets):
            base = clean.sample_base(number, is_cut=False)
            run = block.sampling.clean_run(base, chosen, report)
            rows.append(_draw(run, chosen, settings))
        return _Rows(rows)

    steps = [*successful(explainer.run_steps(loads, progress=progress, compute=compute), None)]
    if len(steps) != 1:
        raise SettingError(f"there are {len(steps)} images or targets; pass one")
    return _fit(steps[0].image, steps[0].result.rows[0], settings, explainer)


class _Rows(NamedTuple):
    """The samples of the images of a block."""

    rows: list[Shown]

    def row(self, number: int) -> _Rows:
        return _Rows(self.rows[number : number + 1])


def _method_of_image_samples() -> str:
    """The first method that scores samples of the image, without a gradient."""
    return next(
        name
        for name, method in METHODS.items()
        if method.sampler.varies == "image" and method.needs_target and not method.needs_gradient
    )


def _draw(run: CleanRun, target: Target, settings: Mapping[str, Any]) -> Shown:
    """The samples of an image, and their scores."""
    labels, notices = find_segments(run, settings["segments"], settings["count"])
    random, samples = np.random.default_rng(settings["seed"]), settings["samples"]
    size = samples, int(labels.max()) + 1
    shares = np.where(random.random(size) < 0.5, 1.0, random.random(size))
    shares[0] = 1.0

    def draw_masks(rows: Floats) -> Maps:
        return rows.astype(np.float32)[:, labels]

    blurred: Floats = np.asarray(BASELINES["blur"](run), np.float64)
    offsets = hide(run, blurred, Tabulated(draw_masks, (shares,)))
    scores = np.asarray(run.scores(Samples(samples, offsets)), np.float64)
    return Shown(labels, shares, scores, target, (*target.notices, *notices))


def _fit(
    image: ExplainedImage, shown: Shown, settings: dict[str, Any], explainer: Explainer
) -> SuperpixelModel:
    names = [f"superpixel {k + 1}" for k in range(shown.shares.shape[1])]
    is_held_out = np.arange(len(shown.scores)) % HELD_OUT == HELD_OUT - 1
    fitted = shown.shares[~is_held_out], shown.scores[~is_held_out]
    model = fit_additive_model(*fitted, names, settings["seed"])
    columns = np.column_stack([shown.shares, np.ones(len(shown.scores))])
    line = np.linalg.lstsq(columns[~is_held_out], fitted[1], rcond=None)[0]
    expected = shown.scores[is_held_out]
    provenance = explainer.origin().provenance
    return SuperpixelModel(
        image=image,
        shown=shown,
        model=model,
        r2=explained_variance(expected, model(shown.shares[is_held_out])),
        r2_linear=explained_variance(expected, columns[is_held_out] @ line),
        settings=settings,
        provenance={name: fact for name, fact in provenance.items() if name not in UNUSED},
    )
