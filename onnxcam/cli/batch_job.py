"""Many images through one explainer: broken ones are skipped, and an earlier run can be continued."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias

from onnxcam._version import __version__
from onnxcam.cli import interrupts
from onnxcam.cli.image_files import result_names, target_suffixes
from onnxcam.cli.progress import ProgressReporter
from onnxcam.digests import digest_json
from onnxcam.errors import (
    ImageError,
    OnnxcamError,
    OutputError,
    PlaceError,
    RunError,
    one_line,
)
from onnxcam.explain.ahead import OrderedCalls
from onnxcam.explain.explainer import Explainer
from onnxcam.explain.explanation import Explanation
from onnxcam.explain.inputs import PreparedInput, prepare_source
from onnxcam.explain.join import Origin
from onnxcam.explain.pipeline import Load, Step
from onnxcam.explain.probabilities import format_score
from onnxcam.explain.result_files import require_writable, result_files, verified_manifest
from onnxcam.image.preprocess import to_dict
from onnxcam.image.read import LARGEST_FILE
from onnxcam.image.read_array import file_of
from onnxcam.methods.subset import region_to_json
from onnxcam.regular_files import digest_file
from onnxcam.runtime.device import usable_cpus
from onnxcam.runtime.session import memory_errors
from onnxcam.targets.where.read import ALL, files_of

CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
MAX_WRITERS = 4  # threads that draw and write results
WAITING = 8  # explained images that wait to be written
SLOW = (
    0.5  # seconds of a run before which results are written: their lines should not come much later
)
Outcome: TypeAlias = (
    dict[str, Any] | OnnxcamError
)  # the record of an image and target, or what failed


@dataclass(frozen=True)
class Task:
    """An image and target, and the files that they get. `manifest` is that of an earlier run, if valid."""

    path: Path
    files: Mapping[str, Path]
    stem: str
    target: str
    fingerprint: str
    passes: int  # inputs of the model that are run before
    manifest: Mapping[str, Any] | None = None


@dataclass
class Job:
    """Images and targets for one explainer, the output folder, and what has been done so far.

    Images are prepared by threads, run in blocks by the calling thread, and written by threads; the lines come
    in the order of the images.
    """

    explainer: Explainer
    images: Sequence[Path]
    targets: Sequence[str]
    out: Path
    drawing: Mapping[str, Any]
    skip_existing: bool
    overwrite: bool = False
    written: int = 0
    skipped: int = 0
    failures: dict[Path, str] = field(default_factory=dict)
    noted: set[str] = field(default_factory=set)

    @property
    def passes(self) -> int:
        """The number of model inputs that are run for one image."""
        return len(self.targets) * self.explainer.passes

    def run(self, reporter: ProgressReporter) -> None:
        """Explain everything. Errors of one image go into `failures`; an error that concerns all is raised.
        After an error or interrupt, what is being written is completed and reported.
        """
        origin = self.explainer.origin()
        writer = OrderedCalls(partial(self._write, origin=origin), min(usable_cpus(), MAX_WRITERS))
        started = time.monotonic()

        def start(step: Step) -> None:
            nonlocal started
            before, started = started, time.monotonic()
            self._report(writer, reporter, 0 if started - before > SLOW else WAITING)
            reporter.start_image(step.source.path.name, step.source.passes)

        try:
            for step in self.explainer.run_steps(
                self._loads(),
                progress=reporter.advance,
                threads=None if len(self.images) > 1 else 0,
                start=start,
            ):
                if step.source.path not in self.failures:
                    writer.submit(step)
                    self._report(writer, reporter, WAITING)
            self._report(writer, reporter, 0)
        finally:
            interrupts.stop_raising()
            for step, outcome in writer.close():
                if not isinstance(outcome, OnnxcamError):
                    self._count(step, outcome, reporter)

    def _loads(self) -> Iterator[Load]:
        names = result_names(self.images)
        for number, (path, name) in enumerate(zip(self.images, names, strict=True)):
            yield partial(self._load, path, name, number * self.passes)

    def _load(self, path: Path, name: str, passes: int) -> list[Step]:
        """The steps of an image, up to the first that fails."""
        digest = _image_digest(path)
        steps: list[Step] = []
        try:
            targets, prepared = self._expand_targets(path)
        except OnnxcamError as error:
            return [Step(self._failed_task(path, name, passes), error=error)]
        for target, suffix in zip(targets, target_suffixes(targets), strict=True):
            stem = f"{name}{suffix}"
            files = self._files(stem)
            fingerprint = self._fingerprint(digest, target)
            before = passes + len(steps) * self.explainer.passes
            task = Task(path, files, stem, target, fingerprint, before)
            if self.skip_existing and (manifest := _unchanged_manifest(files, fingerprint)):
                steps.append(Step(replace(task, manifest=manifest)))
                continue
            try:
                require_writable(files, overwrite=self.overwrite)  # before the work, not after it
                prepared = prepared or self._prepare(path)
            except OnnxcamError as error:
                return [*steps, Step(task, error=error)]
            steps.append(Step(task, target, prepared))
        return steps

    def _expand_targets(self, path: Path) -> tuple[list[str], PreparedInput | None]:
        """The targets of an image, and the image if it was needed to find them."""
        if ALL not in self.targets or ALL in (self.explainer.labels or ()):
            return [*self.targets], None
        prepared = self._prepare(path)
        expanded = (
            str(spec) for target in self.targets for spec in self.explainer.expand(prepared, target)
        )
        return list(dict.fromkeys(expanded)), prepared

    def _failed_task(self, path: Path, name: str, passes: int) -> Task:
        """What stands for all targets of an image that failed."""
        files = self._files(name)
        return Task(path, files, name, self.targets[0], "", passes)

    def _files(self, stem: str) -> dict[str, Path]:
        has_channels = self.explainer.top_channels > 0
        return result_files(self.out, stem, self.explainer.method.name, channels=has_channels)

    def _prepare(self, path: Path) -> PreparedInput:
        explainer = self.explainer
        with memory_errors("while an image was prepared"):
            return prepare_source(path, 0, explainer.preprocessing, explainer.plan.image)

    def _write(self, step: Step, origin: Origin) -> Outcome:
        """The record of a step that was run, whose files are written here, or was skipped; or its error."""
        task: Task = step.source
        if task.manifest is not None:
            return self._record(task, task.manifest)
        if step.error is not None:
            return step.error
        request = {"target": task.target, "drawing": dict(self.drawing)}
        try:
            explanation = _add_request(
                self.explainer.join([step], origin), request | {"fingerprint": task.fingerprint}
            )
            explanation.save(self.out, names=[task.stem], overwrite=self.overwrite, **self.drawing)
            return self._record(task, explanation.manifest())
        except OnnxcamError as error:
            return error

    def _report(
        self, writer: OrderedCalls[Step, Outcome], reporter: ProgressReporter, waiting: int
    ) -> None:
        """Report what is written, in order, until at most so many wait."""
        while len(writer) > waiting or writer.is_next_done:
            step, outcome = writer.take()
            if not isinstance(outcome, OnnxcamError):
                self._count(step, outcome, reporter)
            else:
                self._fail(step.source.path, outcome, reporter)

    def _count(self, step: Step, record: dict[str, Any], reporter: ProgressReporter) -> None:
        is_skipped = step.source.manifest is not None
        self.skipped += is_skipped
        self.written += not is_skipped
        self._note(step, reporter)
        reporter.report(record, _format_record(record))

    def _note(self, step: Step, reporter: ProgressReporter) -> None:
        """Print the notices about an image; those that were printed before are left out."""
        notices = [text for about in step.result.notices for text in about] if step.result else []
        notices += [step.input.image.notice] if step.input and step.input.image.notice else []
        for notice in dict.fromkeys(notices):
            if notice not in self.noted:
                self.noted.add(notice)
                reporter.note(f"note: {notice}")

    def _fail(self, path: Path, error: OnnxcamError, reporter: ProgressReporter) -> None:
        """Count an image as failed, once; raise an error that concerns all images."""
        if not isinstance(error, (ImageError, RunError, OutputError, PlaceError)) or _concerns_all(
            error
        ):
            raise error
        if path not in self.failures:
            self.failures[path] = one_line(error)
            failure = {"image": str(path), "error": one_line(error)}
            reporter.report(failure, f"{path}  FAILED")

    @cached_property
    def _named_files(self) -> list[tuple[str, str | None]]:
        """The files that the settings of the method name, with the digests of their content."""
        paths = self.explainer.method.files(self.explainer.settings)
        return [(path, _image_digest(Path(path))) for path in paths]

    def _fingerprint(self, image: str | None, target: str) -> str:
        """A digest of everything the files depend on, except the device and the versions of other packages."""
        explainer = self.explainer
        parts = {
            "onnxcam": __version__,
            "model": [explainer.plan.digest, explainer.plan.data],
            "inputs": [(bound.name, bound.to_json()) for bound in explainer.plan.inputs],
            "method": [explainer.method.name, explainer.settings, self._named_files],
            "score": [explainer.score_kind, explainer.plan.explained_tensor],
            "layers": [layer.name for layer in explainer.plan.layers],
            "top_channels": explainer.top_channels,
            "subset": [explainer.channels, region_to_json(explainer.region), explainer.fuse],
            "preprocessing": to_dict(explainer.preprocessing),
            "labels": explainer.labels,
            "target": [target, *map(_image_digest, files_of(target))],
            "drawing": dict(self.drawing),
            "image": image,
        }
        return digest_json(parts, default=str)

    def _record(self, task: Task, manifest: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "image": str(task.path),
            "target": manifest["target"]["name"],
            "index": manifest["target"]["index"],
            "score": manifest["target"]["score"],
            "probability": manifest["target"].get("probability"),
            "box": manifest["target"].get("box"),
            "layers": manifest["layers"],
            "method": self.explainer.method.name,
            "is_empty": manifest["is_empty"],
            **{kind: str(file) for kind, file in task.files.items()},
            "skipped": task.manifest is not None,
            "error": None,
        }


def _add_request(explanation: Explanation, request: Mapping[str, Any]) -> Explanation:
    """The explanation with the request in its manifest."""
    return replace(explanation, provenance={**explanation.provenance, "request": dict(request)})


def _concerns_all(error: Exception) -> bool:
    """Whether the next image would fail the same way: the disk is full, or the folder cannot be written to."""
    cause = error.__cause__
    return (
        isinstance(error, OutputError)
        and isinstance(cause, OSError)
        and cause.errno in CANNOT_WRITE
    )


def _unchanged_manifest(files: Mapping[str, Path], fingerprint: str) -> dict[str, Any] | None:
    """The manifest, if it is of the same image and settings and its files are unchanged."""
    manifest = verified_manifest(files)
    request = manifest.get("request") if manifest else None
    is_same_request = isinstance(request, dict) and request.get("fingerprint") == fingerprint
    return manifest if is_same_request else None


def _image_digest(path: Path) -> str | None:
    path = file_of(path)
    try:
        return digest_file(path) if path.stat().st_size <= LARGEST_FILE else None
    except (OSError, ValueError):
        return None  # reading the image gives a better error


def _format_record(record: Mapping[str, Any]) -> str:
    marks = "  EMPTY: no evidence for this target" if record["is_empty"] else ""
    marks += "  (already exists)" if record["skipped"] else ""
    score, probability = record["score"], record["probability"]
    shown = format_score(score, None if probability == score else probability, digits=4)
    target = f"{record['target']} {shown}".rstrip()
    box = record["box"]
    place = f"  box {','.join(f'{side:.0f}' for side in box)}" if box else ""
    return f"{record['image']}  {target}{place}  {record['overlay']}{marks}"
