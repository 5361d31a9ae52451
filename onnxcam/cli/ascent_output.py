"""What the commands that make images print, and where they write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from onnxcam.cli.output import make_folder
from onnxcam.cli.progress import ProgressReporter


class Result(Protocol):
    """Images that were made."""

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should know."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What was run."""

    def __len__(self) -> int: ...

    def manifest(self) -> dict[str, Any]:
        """What the images show."""

    def save(self, folder: str | Path = ".", *, overwrite: bool = False) -> Path:
        """Write all files; returns the sheet."""


def report(
    make: Callable[[ProgressReporter], Result],
    kind: str,
    line: Callable[[Mapping[str, Any]], str],
    out: Path,
    *,
    force: bool,
    json: bool,
    quiet: bool,
) -> None:
    """Make images, write them, and print a line for each, of what the manifest has under the key `kind`."""
    make_folder(out)
    with ProgressReporter(0, quiet=quiet, json=json, action="opening the model") as reporter:
        result = make(reporter)
        for notice in result.notices:
            reporter.note(f"note: {notice}")
        sheet = result.save(out, overwrite=force)
        files = {
            "sheet": str(sheet),
            "tensor": str(sheet.with_suffix(".npz")),
            "manifest": str(sheet.with_suffix(".json")),
        }
        for number, row in enumerate(result.manifest()[kind], 1):
            image = str(sheet.with_suffix(f".{number}.png"))
            reporter.report({**row, "image": image, **files}, f"{line(row)}  {image}")
        count, device = len(result), result.provenance["device"]
        plural = "" if count == 1 else "s"
        reporter.note(f"{count} image{plural} written to {out}, run on {device}")
