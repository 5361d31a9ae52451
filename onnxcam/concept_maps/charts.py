"""The charts beside concepts in a folder: they are of certain concepts, and say so by a digest."""

from __future__ import annotations

from pathlib import Path

from onnxcam.errors import SettingError
from onnxcam.explain.result_files import read_manifest, remove_result

CONTRIBUTIONS, SURROGATE = (
    "contributions",
    "surrogate",
)  # of the names of files, and keys of manifests
DIGEST = "concepts_sha256"  # the key of the manifests


def chart_files(folder: Path, stem: str) -> dict[str, Path]:
    """The paths of a chart and its manifest."""
    return {"overlay": folder / f"{stem}.png", "manifest": folder / f"{stem}.json"}


def remove_charts_of_others(folder: Path, digest: str) -> None:
    """Remove the charts in a folder that are of other concepts than those with this digest. OutputError."""
    kinds = {
        CONTRIBUTIONS: folder.glob(f"*.{CONTRIBUTIONS}.json"),
        SURROGATE: folder.glob(f"{SURROGATE}.json"),
    }
    for kind, paths in kinds.items():
        for path in [*paths]:
            if _is_of_others(path, kind, digest):
                remove_result(path)


def _is_of_others(path: Path, kind: str, digest: str) -> bool:
    try:
        manifest = read_manifest(path)
    except SettingError:
        return False  # is no chart that is as it was written
    return kind in manifest and manifest.get(DIGEST) != digest
