"""The charts that `onnxcam concepts` writes beside the concepts: of single images, and of a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from onnxcam.cli.image_files import result_names
from onnxcam.cli.progress import ProgressReporter
from onnxcam.concept_maps.additive_model import require_boosting
from onnxcam.concept_maps.class_target import read_class
from onnxcam.concept_maps.concepts import Concepts, concept_files
from onnxcam.concept_maps.contributions import (
    Contributions,
    contribution_files,
    read_with_gradient,
)
from onnxcam.concept_maps.find import CLASS_SCORES
from onnxcam.concept_maps.source import ConceptSource
from onnxcam.concept_maps.superpixels import (
    SuperpixelModel,
    fit_superpixels,
    superpixel_files,
)
from onnxcam.concept_maps.surrogate import PURPOSE, Surrogate, check_surrogate, surrogate_files
from onnxcam.errors import SettingError, TargetError
from onnxcam.explain.result_files import require_writable
from onnxcam.targets.classes import DEFAULT_TARGET

if TYPE_CHECKING:
    from onnxcam.explain.activations import ImageActivations
    from onnxcam.targets.target import Target


@dataclass
class ConceptCharts:
    """The charts that were asked for, and what is known of them before there are concepts.

    Attributes:
        contributions, superpixels: images whose scores are explained.
        surrogate: the kind of the additive model over concepts.
        class_target: the class of which each concept has a score.
    """

    contributions: Sequence[Path]
    superpixels: Sequence[Path]
    surrogate: str | None
    target: str
    out: Path
    overwrite: bool
    class_target: Target | None = None
    _rows: list[ImageActivations] = field(default_factory=list)
    _models: list[SuperpixelModel] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.contributions = [*dict.fromkeys(self.contributions)]
        self.superpixels = [*dict.fromkeys(self.superpixels)]

    def require_writable(self) -> None:
        """OutputError if a file that is to be written is somebody else's; see `require_writable`."""
        names = result_names(self.contributions)
        charts = [contribution_files(self.out, name) for name in names]
        charts += [superpixel_files(self.out, name) for name in result_names(self.superpixels)]
        charts += [surrogate_files(self.out)] if self.surrogate else []
        for files in (concept_files(self.out), *charts):
            require_writable(files, overwrite=self.overwrite)

    def prepare(self, source: ConceptSource, images: int, seed: int) -> None:
        """Compute what needs no concepts, so that it fails before the work. Raises SettingError, TargetError,
        and the errors of the images.
        """
        if self.superpixels:
            require_boosting()
        self._rows = [read_with_gradient(source, path, self.target) for path in self.contributions]
        self.class_target = self._read_class(source, images)
        self._models = [
            fit_superpixels(source.model, path, self.target, seed=seed, **source.arguments)
            for path in self.superpixels
        ]

    def _read_class(self, source: ConceptSource, images: int) -> Target | None:
        """The class of which each concept has a score. SettingError and TargetError if there is none, unless an
        image is explained: its target may be what concepts of many have no score for, such as a box.
        """
        if self.surrogate is not None:
            check_surrogate(self.surrogate, images)
            return read_class(source, self.target, PURPOSE)
        if self.target == DEFAULT_TARGET:
            return None
        try:
            return read_class(source, self.target, CLASS_SCORES)
        except (SettingError, TargetError):
            if self.contributions or self.superpixels:
                return None
            raise

    def write(self, concepts: Concepts, reporter: ProgressReporter, seed: int) -> None:
        """Write and report all charts."""
        for row, name in zip(self._rows, result_names(self.contributions), strict=True):
            explained = concepts.contributions_of(row)
            explained.save(self.out, name=name, overwrite=self.overwrite)
            _report_contributions(explained, reporter)
        for model, name in zip(self._models, result_names(self.superpixels), strict=True):
            for notice in model.notices:
                reporter.note(f"note: {notice}")
            model.save(self.out, name=name, overwrite=self.overwrite)
            _report_superpixels(model, reporter)
        if self.surrogate is not None:
            fitted = concepts.surrogate(
                self.surrogate, self.target, seed=seed, progress=reporter.advance
            )
            fitted.save(self.out, overwrite=self.overwrite)
            _report_surrogate(fitted, reporter)


def _report_contributions(explained: Contributions, reporter: ProgressReporter) -> None:
    manifest = explained.manifest()
    target = manifest["target"]
    record = {
        "image": explained.image.name,
        "target": target["name"],
        "score": target["score"],
        "contributions": manifest["contributions"],
    }
    parts = sorted(explained.parts(), key=lambda part: -abs(part[1]))
    listed = ", ".join(f"{name} {value:+.2f}" for name, value in parts)
    reporter.report(
        record, f"{explained.image.name}  {target['name']} {explained.score:.2f} = {listed}"
    )


def _report_surrogate(fitted: Surrogate, reporter: ProgressReporter) -> None:
    record = {"surrogate": fitted.settings["kind"], "target": fitted.target.name, **fitted.record()}
    reporter.report(
        record,
        f"{record['surrogate']} of {fitted.target.name}: R2 {fitted.r2:.2f} on {record['held_out']} images "
        f"that were not fitted, {fitted.r2_copies:.2f} on their copies, {fitted.r2_fitted:.2f} on the others",
    )


def _report_superpixels(model: SuperpixelModel, reporter: ProgressReporter) -> None:
    facts, score = model.record(), float(model.shown.scores[0])
    record = {"image": model.image.name, "target": model.target.name, "score": score}
    reporter.report(
        {**record, **facts, "effects": model.effects.tolist()},
        f"{model.image.name}  {model.target.name} {score:.2f} over {len(model.effects)} superpixels: "
        f"R2 {model.r2:.2f} on samples that were not fitted, {model.r2_linear:.2f} for lines",
    )
