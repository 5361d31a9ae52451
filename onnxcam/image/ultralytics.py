"""How images of models exported by Ultralytics are prepared, by the metadata of the file.

Source: `ultralytics/data/augment.py` (LetterBox, classify_transforms). RGB / 255; detectors see a letterbox
with gray padding, RT-DETR the squashed image, and classifiers a square as large as the short side.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnxcam.image.description import ASSUMABLE, Description
from onnxcam.image.geometry import Fit
from onnxcam.image.preprocess import Preprocessing

AUTHOR = "ultralytics"
_DETECTS = ("detect", "segment", "pose", "obb")


def from_ultralytics(metadata: Mapping[str, str]) -> Description | None:
    """The preprocessing of a model whose metadata are those of Ultralytics; None for other metadata.

    `names` and `stride`, which YOLOv5 writes, or `names` and a task may be from others, too: then all settings
    are assumed.
    """
    is_author = metadata.get("author", "").strip().lower() == AUTHOR
    task = metadata.get("task", "").strip().lower()
    names_task = task in ("classify", *_DETECTS)
    if not is_author and not ("names" in metadata and ("stride" in metadata or names_task)):
        return None
    is_described = is_author and names_task
    preprocessing = Preprocessing(fit=_fit(metadata, task), crop_ratio=1.0)
    return Description(preprocessing, () if is_described else ASSUMABLE)


def _fit(metadata: Mapping[str, str], task: str) -> Fit:
    if task == "classify":
        return "crop"
    description = metadata.get("description", "").lower().replace("-", "")
    return "squash" if "rtdetr" in description else "letterbox"
