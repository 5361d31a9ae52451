"""`--channels @scan.json` and `--region @scan.json`: what a scan marked as unusual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxcam.specs import AUTO

if TYPE_CHECKING:
    from onnxcam.scanning.stored_subset import StoredSubset

MARK = "@"  # before the name of a file


def read_subsets(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], list[StoredSubset]]:
    """The arguments of an explainer, with the feature maps and cells of the scans that they name and, unless a
    layer is set, its layer; and these scans. SettingError for other files.
    """
    subsets: dict[str, StoredSubset] = {}
    for name in ("channels", "region"):
        text = arguments.get(name)
        if isinstance(text, str) and text.startswith(MARK):
            from onnxcam.scanning.stored_subset import read_subset

            subsets[name] = read_subset(Path(text.removeprefix(MARK)))
    replaced: dict[str, Any] = {
        name: subset.channels if name == "channels" else subset.cells
        for name, subset in subsets.items()
    }
    if subsets and [*arguments["layer"]] == [AUTO]:
        replaced["layer"] = [next(iter(subsets.values())).layer]
    return {**arguments, **replaced}, [*subsets.values()]


def require_scanned_model(subsets: Sequence[StoredSubset], model: Path) -> None:
    """SettingError if a scan is of another model, whose layers and feature maps are different ones."""
    if not subsets:
        return
    from onnxcam.regular_files import digest_file

    try:
        digest = digest_file(model)
    except (OSError, ValueError):
        return  # opening the model gives a better error
    for subset in subsets:
        subset.require_model(model.name, digest)
