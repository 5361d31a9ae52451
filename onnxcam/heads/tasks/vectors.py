"""Numbers of the complete image: an embedding, or values of a regression."""

from __future__ import annotations

import re

from onnxcam.heads.head import Head
from onnxcam.heads.tasks.task import EMBEDDING, REGRESSION, Task
from onnxcam.heads.unit_length import before_normalization

EMBEDDING_NAMES = re.compile(r"embed|feat|descriptor|\bid_?feature", re.IGNORECASE)
REGRESSION_NAMES = re.compile(
    r"landm|kps|key_?point|coord|regress|angle|\bage\b|yaw|pitch|roll\b|steer|distance|box|depth",
    re.IGNORECASE,
)


def vector_task(head: Head) -> Task | None:
    """An embedding or a regression, for a head with numbers of the image; None for class scores."""
    name = head.output.name
    if head.other_axes or head.output_activation or head.inner_logits:
        return None
    if before_normalization(head.logits) is not None:
        return Task(EMBEDDING, f"{name} is divided by its norm")
    if EMBEDDING_NAMES.search(name):
        return Task(EMBEDDING, f"the name of {name} says so", is_assumed=True)
    if REGRESSION_NAMES.search(name):
        return Task(REGRESSION, f"the name of {name} says so", is_assumed=True)
    return None
