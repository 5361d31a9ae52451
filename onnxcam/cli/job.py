"""Many pictures through one explainer: on past broken ones, and on from where an earlier run stopped."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onnxcam.cli import pictures
from onnxcam.cli.plain import one_line
from onnxcam.cli.watch import Watch
from onnxcam.errors import ImageError, OutputError, RunError
from onnxcam.explain import Explainer
from onnxcam.explanation import Explanation
from onnxcam.files import digest_file
from onnxcam.image.preprocess import describe
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
    written: int = 0
    skipped: int = 0
    failures: dict[Path, str] = field(default_factory=dict)

    @property
    def passes(self) -> int:
        """How many inputs of the model are run for one picture."""
        return len(self.targets) * self.explainer.passes

    def run(self, watch: Watch) -> None:
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

    def _records(self, path: Path, name: str, watch: Watch) -> Iterator[dict[str, Any]]:
        for target, slug in zip(self.targets, pictures.slugs(self.targets), strict=True):
            stem = f"{name}{slug}"
            made = self._fingerprint(path, target)
            if self.skip and (manifest := self._present(stem, made)):
                self.skipped += 1
                yield self._record(path, stem, manifest, skipped=True)
                continue
            explanation = self.explainer(path, target, progress=watch.passes)
            asked = {"target": target, "drawn": dict(self.drawn), "fingerprint": made}
            explanation = _with(explanation, asked)
            explanation.save(self.out, names=[stem], **self.drawn)
            self.written += 1
            yield self._record(path, stem, explanation.manifest())

    def _files(self, stem: str) -> dict[str, Path]:
        suffixes = {"overlay": "png", "map": "npz", "manifest": "json"}
        method = self.explainer.recipe.name
        return {each: self.out / f"{stem}.{method}.{end}" for each, end in suffixes.items()}

    def _present(self, stem: str, made: str) -> dict[str, Any] | None:
        """The manifest, if the same settings made it of the same picture and its files are there."""
        files = self._files(stem)
        if not all(each.is_file() for each in files.values()):
            return None
        try:
            manifest = json.loads(files["manifest"].read_text(encoding="utf-8"))
            return manifest if manifest["asked"]["fingerprint"] == made else None
        except (ValueError, LookupError, TypeError, OSError):
            return None  # not one of ours: it is made anew

    def _fingerprint(self, path: Path, target: str) -> str:
        """A digest of everything that the files depend on, but versions and the device."""
        made = self.explainer
        parts = {
            "model": made.plan.digest,
            "method": [made.recipe.name, made.settings],
            "score": [made.score_kind, made.plan.of],
            "layers": [each.name for each in made.plan.layers],
            "subset": [made.channels, made.region, made.fuse],
            "preprocessing": describe(made.preprocessing),
            "labels": made.labels,
            "target": target,
            "drawn": dict(self.drawn),
            "picture": _digest(path),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def _record(
        self, path: Path, stem: str, manifest: Mapping[str, Any], *, skipped: bool = False
    ) -> dict[str, Any]:
        return {
            "picture": str(path),
            "target": manifest["target"]["name"],
            "index": manifest["target"]["index"],
            "score": manifest["target"]["score"],
            "layers": manifest["layers"],
            "method": self.explainer.recipe.name,
            "empty": manifest["empty"],
            **{each: str(file) for each, file in self._files(stem).items()},
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


def _digest(path: Path) -> str | None:
    try:
        return digest_file(path) if path.stat().st_size <= LARGEST_FILE else None
    except (OSError, ValueError):
        return None  # the reader says it better


def _line(record: Mapping[str, Any]) -> str:
    marks = "  EMPTY: no evidence for this target" if record["empty"] else ""
    marks += "  (there already)" if record["skipped"] else ""
    return f"{record['picture']}  {record['target']}  {record['score']:.4g}  {record['overlay']}{marks}"
