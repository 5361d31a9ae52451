"""The task that the metadata of a model names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from onnxcam.dense import DETECTION, IMAGE, SEGMENTATION, SEQUENCE
from onnxcam.heads.tasks.task import CLASSIFICATION, EMBEDDING, REGRESSION, TASKS, Task

# Keys of Ultralytics, of model cards, and of config.json of Hugging Face.
KEYS = ("task", "pipeline_tag", "architectures", "architecture", "model_type")
OF_ULTRALYTICS = {
    "detect": DETECTION,
    "segment": DETECTION,  # of instances: boxes, each with a mask
    "pose": DETECTION,
    "obb": DETECTION,
    "classify": CLASSIFICATION,
}
PATTERNS = {  # of the tasks and architectures of Hugging Face, without spaces, hyphens and underscores
    r"imageclassification|forclassification": CLASSIFICATION,
    r"objectdetection": DETECTION,
    r"semanticsegmentation|imagesegmentation": SEGMENTATION,
    r"depthestimation|imagetoimage|superresolution|matting": IMAGE,
    r"featureextraction|metriclearning": EMBEDDING,
    r"imagetotext|textrecognition|\bocr\b": SEQUENCE,
    r"imageregression": REGRESSION,
}


def task_in_metadata(metadata: Mapping[str, str]) -> Task | None:
    """The task that the metadata names, or None."""
    for key in KEYS:
        text = metadata.get(key, "").strip()
        name = _task_named(text)
        if name is not None:
            return Task(name, f"the metadata says {key} = {text[:40]}")
    return None


def _task_named(text: str) -> str | None:
    word = text.lower()
    if word in TASKS:
        return word
    if word in OF_ULTRALYTICS:
        return OF_ULTRALYTICS[word]
    joined = re.sub(r"[\s_-]", "", word)
    return next((name for pattern, name in PATTERNS.items() if re.search(pattern, joined)), None)
