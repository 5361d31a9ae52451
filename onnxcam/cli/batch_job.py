"""Many images through one explainer: broken ones are skipped, and an earlier run can be continued."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onnxcam._version import __version__
from onnxcam.cli.image_files import result_names, target_suffixes
from onnxcam.cli.progress import ProgressReporter
from onnxcam.digests import digest_json
from onnxcam.errors import ImageError, OutputError, RunError, one_line
from onnxcam.explain.explainer import Explainer
from onnxcam.explain.explanation import Explanation
from onnxcam.explain.probabilities import format_score
from onnxcam.explain.result_files import require_writable, result_files, verified_manifest
from onnxcam.image.preprocess import to_dict
from onnxcam.image.read import LARGEST_FILE
from onnxcam.regular_files import digest_file

CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass
class Job:
    """Images and targets for one explainer, the output folder, and what has been done so far."""

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

    @property
    def passes(self) -> int:
        """The number of model inputs that are run for one image."""
        return len(self.targets) * self.explainer.passes

    def run(self, reporter: ProgressReporter) -> None:
        """Explain everything. Errors of one image go into `failures`; an error that concerns all is raised."""
        names = result_names(self.images)
        for number, (path, name) in enumerate(zip(self.images, names, strict=True)):
            reporter.start_image(path.name, number * self.passes)
            try:
                for record in self._explain(path, name, reporter):
                    reporter.report(record, _format_record(record))
            except (ImageError, RunError, OutputError) as error:
                if _concerns_all_images(error):
                    raise
                self.failures[path] = one_line(error)
                failure = {"image": str(path), "error": one_line(error)}
                reporter.report(failure, f"{path}  FAILED")

    def _explain(
        self, path: Path, name: str, reporter: ProgressReporter
    ) -> Iterator[dict[str, Any]]:
        digest = _image_digest(path)
        for target, suffix in zip(self.targets, target_suffixes(self.targets), strict=True):
            stem = f"{name}{suffix}"
            files = result_files(self.out, stem, self.explainer.method.name)
            fingerprint = self._fingerprint(digest, target)
            if self.skip_existing and (manifest := _unchanged_manifest(files, fingerprint)):
                self.skipped += 1
                yield self._record(path, files, manifest, skipped=True)
                continue
            require_writable(files, overwrite=self.overwrite)  # before the work, not after it
            explanation = self.explainer(path, target, progress=reporter.advance)
            request = {"target": target, "drawing": dict(self.drawing), "fingerprint": fingerprint}
            explanation = _add_request(explanation, request)
            explanation.save(self.out, names=[stem], overwrite=self.overwrite, **self.drawing)
            self.written += 1
            yield self._record(path, files, explanation.manifest())

    def _fingerprint(self, image: str | None, target: str) -> str:
        """A digest of everything the files depend on, except the device and the versions of other packages."""
        explainer = self.explainer
        parts = {
            "onnxcam": __version__,
            "model": [explainer.plan.digest, explainer.plan.data],
            "inputs": [(bound.name, bound.to_json()) for bound in explainer.plan.inputs],
            "method": [explainer.method.name, explainer.settings],
            "score": [explainer.score_kind, explainer.plan.explained_tensor],
            "layers": [layer.name for layer in explainer.plan.layers],
            "subset": [explainer.channels, explainer.region, explainer.fuse],
            "preprocessing": to_dict(explainer.preprocessing),
            "labels": explainer.labels,
            "target": target,
            "drawing": dict(self.drawing),
            "image": image,
        }
        return digest_json(parts, default=str)

    def _record(
        self,
        path: Path,
        files: Mapping[str, Path],
        manifest: Mapping[str, Any],
        *,
        skipped: bool = False,
    ) -> dict[str, Any]:
        return {
            "image": str(path),
            "target": manifest["target"]["name"],
            "index": manifest["target"]["index"],
            "score": manifest["target"]["score"],
            "probability": manifest["target"].get("probability"),
            "layers": manifest["layers"],
            "method": self.explainer.method.name,
            "is_empty": manifest["is_empty"],
            **{kind: str(file) for kind, file in files.items()},
            "skipped": skipped,
            "error": None,
        }


def _add_request(explanation: Explanation, request: Mapping[str, Any]) -> Explanation:
    """The explanation with the request in its manifest."""
    return replace(explanation, provenance={**explanation.provenance, "request": dict(request)})


def _concerns_all_images(error: Exception) -> bool:
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
    return f"{record['image']}  {target}  {record['overlay']}{marks}"
