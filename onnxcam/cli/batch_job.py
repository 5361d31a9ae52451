"""Many pictures through one explainer: on past broken ones, and on from where an earlier run stopped."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onnxcam._version import __version__
from onnxcam.atomic_write import digest_file
from onnxcam.cli import image_files as pictures
from onnxcam.cli.progress import ProgressReporter
from onnxcam.errors import ImageError, OutputError, RunError, one_line
from onnxcam.explain.explainer import Explainer
from onnxcam.explain.explanation import Explanation
from onnxcam.explain.result_files import certified, require_writable, result_files
from onnxcam.image.preprocess import to_dict
from onnxcam.image.read import LARGEST_FILE

NO_PLACE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass
class Job:
    """Pictures and targets for one explainer, and the folder that takes the results."""

    explainer: Explainer
    pictures: Sequence[Path]
    targets: Sequence[str]
    out: Path
    drawn: Mapping[str, Any]
    skip: bool
    overwrite: bool = False
    written: int = 0
    skipped: int = 0
    failures: dict[Path, str] = field(default_factory=dict)

    @property
    def passes(self) -> int:
        """How many inputs of the model are run for one picture."""
        return len(self.targets) * self.explainer.passes

    def run(self, watch: ProgressReporter) -> None:
        """Explain everything. A picture that fails is kept in `failures`; what concerns all is raised."""
        names = pictures.names(self.pictures)
        for number, (path, name) in enumerate(zip(self.pictures, names, strict=True)):
            watch.picture(path.name, number * self.passes)
            try:
                for record in self._records(path, name, watch):
                    watch.record(record, _line(record))
            except (ImageError, RunError, OutputError) as fault:
                if _concerns_all(fault):
                    raise
                self.failures[path] = one_line(fault)
                failed = {"picture": str(path), "error": one_line(fault)}
                watch.record(failed, f"{path}  FAILED")

    def _records(self, path: Path, name: str, watch: ProgressReporter) -> Iterator[dict[str, Any]]:
        digest = _digest(path)
        for target, slug in zip(self.targets, pictures.slugs(self.targets), strict=True):
            stem = f"{name}{slug}"
            files = result_files(self.out, stem, self.explainer.recipe.name)
            fingerprint = self._fingerprint(digest, target)
            if self.skip and (manifest := _present(files, fingerprint)):
                self.skipped += 1
                yield self._record(path, files, manifest, skipped=True)
                continue
            require_writable(files, overwrite=self.overwrite)  # before the work, not after it
            explanation = self.explainer(path, target, progress=watch.passes)
            asked = {"target": target, "drawn": dict(self.drawn), "fingerprint": fingerprint}
            explanation = _with(explanation, asked)
            explanation.save(self.out, names=[stem], overwrite=self.overwrite, **self.drawn)
            self.written += 1
            yield self._record(path, files, explanation.manifest())

    def _fingerprint(self, picture: str | None, target: str) -> str:
        """A digest of everything the files depend on, except the device and the versions of other packages."""
        made = self.explainer
        parts = {
            "onnxcam": __version__,
            "model": [made.plan.digest, made.plan.data],
            "method": [made.recipe.name, made.settings],
            "score": [made.score_kind, made.plan.explained_tensor],
            "layers": [each.name for each in made.plan.layers],
            "subset": [made.channels, made.region, made.fuse],
            "preprocessing": to_dict(made.preprocessing),
            "labels": made.labels,
            "target": target,
            "drawn": dict(self.drawn),
            "picture": picture,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def _record(
        self,
        path: Path,
        files: Mapping[str, Path],
        manifest: Mapping[str, Any],
        *,
        skipped: bool = False,
    ) -> dict[str, Any]:
        return {
            "picture": str(path),
            "target": manifest["target"]["name"],
            "index": manifest["target"]["index"],
            "score": manifest["target"]["score"],
            "layers": manifest["layers"],
            "method": self.explainer.recipe.name,
            "empty": manifest["empty"],
            **{kind: str(file) for kind, file in files.items()},
            "skipped": skipped,
            "error": None,
        }


def _with(explanation: Explanation, asked: Mapping[str, Any]) -> Explanation:
    """The explanation with what was asked for in its manifest."""
    return replace(explanation, provenance={**explanation.provenance, "asked": dict(asked)})


def _concerns_all(fault: Exception) -> bool:
    """Whether the next picture would fail the same way: the disk is full, the folder is closed."""
    cause = fault.__cause__
    return isinstance(fault, OutputError) and isinstance(cause, OSError) and cause.errno in NO_PLACE


def _present(files: Mapping[str, Path], fingerprint: str) -> dict[str, Any] | None:
    """The manifest, if it is of the same image and settings and its files are unchanged."""
    manifest = certified(files)
    asked = manifest.get("asked") if manifest else None
    same = isinstance(asked, dict) and asked.get("fingerprint") == fingerprint
    return manifest if same else None


def _digest(path: Path) -> str | None:
    try:
        return digest_file(path) if path.stat().st_size <= LARGEST_FILE else None
    except (OSError, ValueError):
        return None  # reading the image gives a better error


def _line(record: Mapping[str, Any]) -> str:
    marks = "  EMPTY: no evidence for this target" if record["empty"] else ""
    marks += "  (there already)" if record["skipped"] else ""
    return f"{record['picture']}  {record['target']}  {record['score']:.4g}  {record['overlay']}{marks}"
