"""The scan of many images from the command line: broken ones are skipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from onnxcam.cli import interrupts
from onnxcam.cli.image_files import result_names
from onnxcam.cli.output import list_failures, make_folder
from onnxcam.cli.progress import ProgressReporter
from onnxcam.errors import ImageError, OnnxcamError, RunError, one_line
from onnxcam.explain.result_files import SCAN, require_writable, result_files
from onnxcam.image.colormap import choose_colormap
from onnxcam.scanning.group import NAME as GROUP
from onnxcam.scanning.group import ScannedGroup, choose_colors, remove_group
from onnxcam.scanning.scanned_image import ScannedImage
from onnxcam.scanning.scanner import Scanner
from onnxcam.scanning.settings import ScanSettings
from onnxcam.scanning.subset_text import format_scan_score


@dataclass
class ScanJob:
    """Images that are scanned, the output folder, and what has been done so far."""

    images: Sequence[Path]
    out: Path
    overwrite: bool
    drawing: Mapping[str, Any]
    reporter: ProgressReporter
    written: int = 0
    failures: dict[Path, str] = field(default_factory=dict)
    noted: set[str] = field(default_factory=set)

    @cached_property
    def _names(self) -> dict[str, str]:
        """The names of the results, by the sources of the images."""
        return dict(zip(map(str, self.images), result_names(self.images), strict=True))

    def prepare(self, *, together: bool) -> None:
        """Make the folder. OutputError if a result cannot be written, before the work, not after it."""
        choose_colormap(self.drawing["colormap"], signed=False)
        make_folder(self.out)
        for name in [*self._names.values(), *([GROUP] if together else [])]:
            require_writable(result_files(self.out, name, SCAN), overwrite=self.overwrite)

    def open(
        self,
        model: Path,
        background: Sequence[Path],
        layer: str,
        settings: ScanSettings,
        arguments: Mapping[str, Any],
    ) -> Scanner:
        """What scans, after the background images were run. If too few are left, the failed ones are listed."""
        try:
            return Scanner(
                model,
                background,
                layer,
                progress=self._advance,
                on_error=self._fail,
                **settings.to_json(),
                **arguments,
            )
        except OnnxcamError:
            list_failures(self.failures.items())
            raise

    def run(self, scanner: Scanner, *, together: bool) -> None:
        """Scan all images and write the results. Errors of one image go into `failures`."""
        scanned: list[ScannedImage] = []
        for image in scanner.stream(self.images, progress=self._advance, on_error=self._fail):
            name = self._names[str(image.image.source)]
            image.save(self.out, name=name, overwrite=self.overwrite, **self.drawing)
            self.written += 1
            self._report(image, name)
            scanned += [image] if together else []
        if not scanned:
            remove_group(self.out)
        else:
            group = scanner.scan_together(scanned, progress=self._show_group)
            for notice in group.notices:
                self.note(notice)
            path = group.save(self.out, overwrite=self.overwrite, **choose_colors(self.drawing))
            self.reporter.report(_group_record(group, path), _group_line(group, path))

    def note(self, notice: str) -> None:
        """Print a notice, once."""
        if notice not in self.noted:
            self.noted.add(notice)
            self.reporter.note(f"note: {notice}")

    def summary(self, scanner: Scanner) -> str:
        """What was done, in a line."""
        count, usual = self.written, scanner.count
        text = f"{count} image{'' if count == 1 else 's'} compared with {usual} at {scanner.layer}"
        text += f", results in {self.out}, run on {scanner.explainer.device}"
        failed = len(self.failures)
        return text + (f"; {failed} image{'' if failed == 1 else 's'} failed:" if failed else "")

    def _show_group(self, number: int, groups: int) -> None:
        self._advance(0)
        self.reporter.start_image(f"group {number} of {groups} of the background", number, groups)

    def _advance(self, count: int) -> None:
        if interrupts.exit_code() is not None:  # an interrupt that a library swallowed
            raise KeyboardInterrupt
        self.reporter.advance(count)

    def _report(self, image: ScannedImage, name: str) -> None:
        for notice in image.notices:
            self.note(notice)
        files = result_files(self.out, name, SCAN)
        self.reporter.report(_record(image, files), _line(image, files["overlay"]))

    def _fail(self, path: Any, error: OnnxcamError) -> None:
        """List an image as failed; raise an error that concerns all images."""
        if not isinstance(error, (ImageError, RunError)):
            raise error
        if path not in self.failures:
            self.failures[path] = one_line(error)
            failure = {"image": str(path), "error": one_line(error)}
            self.reporter.report(failure, f"{path}  FAILED")


def _record(image: ScannedImage, files: Mapping[str, Path]) -> dict[str, Any]:
    manifest = image.manifest()
    names = ("score", "p_value", "alpha", "nodes", "nodes_of_layer", "channels", "cells")
    return {
        "image": image.image.source,
        **{name: manifest[SCAN][name] for name in names},
        "layer": image.layer,
        **{kind: str(file) for kind, file in files.items()},
        "error": None,
    }


def _line(image: ScannedImage, overlay: Path) -> str:
    share = image.subset.mean()
    channels = f"{len(image.channels)} of {len(image.ranks)} feature maps"
    facts = f"p = {image.p_value:.3g}  score {format_scan_score(image.score)}"
    return f"{image.image.source}  {facts}  {share:.0%} of the activations, {channels}  {overlay}"


def _group_record(group: ScannedGroup, path: Path) -> dict[str, Any]:
    return {"image": None, **group.manifest()[SCAN], "overlay": str(path), "error": None}


def _group_line(group: ScannedGroup, path: Path) -> str:
    members = f"{len(group.chosen)} of {len(group.images)} images"
    facts = _score_text(group.p_value, group.score)
    in_common = _score_text(group.common_p_value, group.common_score)
    nodes = f"{group.subset.mean():.0%} of the activations"
    return f"together: {members}  {facts}  {nodes}  all images: {in_common}  {path}"


def _score_text(p_value: float | None, score: float) -> str:
    text = f"score {format_scan_score(score)}"
    return text if p_value is None else f"p = {p_value:.3g}  {text}"
