"""The unusual feature maps and cells in the manifest of a scan, for an explanation of only these."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxcam.errors import SettingError
from onnxcam.explain.result_files import SCAN, read_manifest
from onnxcam.scanning.search import Mask
from onnxcam.specs import Plan


@dataclass(frozen=True)
class StoredSubset:
    """What the manifest at `path` says: the layer, the digest of the model, the feature maps in the form of
    `--channels`, and the cells (h, w).
    """

    path: Path
    layer: str
    model: str
    channels: str
    cells: Mask

    def require_fit(self, plan: Plan) -> None:
        """SettingError unless a plan explains the same model at the same layer."""
        self.require_layer(", ".join(layer.name for layer in plan.layers))
        self.require_model(plan.name, plan.digest)

    def require_layer(self, name: str) -> None:
        """SettingError unless a layer is the scanned one."""
        if name != self.layer:
            raise SettingError(
                f"{self.path}: is a scan at the layer {self.layer}, but {name or 'no layer'} was chosen; set "
                f"--layer {self.layer}"
            )

    def require_model(self, name: str, digest: str) -> None:
        """SettingError unless a model has the digest of the scanned one."""
        if digest != self.model:
            raise SettingError(
                f"{self.path}: is a scan of another model than {name}; scan the images with this one"
            )


def read_subset(path: Path) -> StoredSubset:
    """The subset of a scan. SettingError for any other file, and for a scan without unusual feature maps."""
    manifest = read_manifest(path)
    try:
        stored = manifest[SCAN]
        (layer,) = manifest["layers"]
        cells = np.array([[cell == "1" for cell in row] for row in stored["cells"]])
        subset = StoredSubset(
            path, str(layer), str(manifest["model"]["sha256"]), str(stored["channels"]), cells
        )
    except (LookupError, TypeError, ValueError) as error:
        raise SettingError(
            f"{path}: is not of a scan; expected the .json file of a result of `onnxcam scan`"
        ) from error
    if not subset.channels:
        raise SettingError(
            f"{path}: nothing is unusual in this scan, so there is nothing to explain"
        )
    return subset
