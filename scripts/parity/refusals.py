"""Why a method may refuse a model: the reasons that `scripts.parity.methods` accepts.

A reason is what the message of an error must contain, a regular expression. Every other error is a failure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """Why no map is computed, in a few words, the class of the error, and a part of its message."""

    why: str
    error: str
    message: str

    def explains(self, error: str, message: str) -> bool:
        return error == self.error and re.search(self.message, message) is not None


REASONS = (
    Reason(
        "no linear layer after global pooling", "ModelError", "needs global average pooling and"
    ),
    Reason("no class scores", "ModelError", "no output has one score per class"),
    Reason("no attention", "ModelError", "no attention among the cells of the image"),
    Reason(
        "attention within windows", "ModelError", "is not among all cells of the image in their"
    ),
    Reason("parallel attention", "ModelError", "are parallel: neither depends on the other"),
    Reason("scores that are no probabilities", "ModelError", "the scores are no probabilities"),
    Reason("several layers where one is needed", "ModelError", "from the values of one layer, but"),
    Reason("no biases", "ModelError", "has no biases"),
    Reason("an image of integers", "ModelError", "holds integers, which .* so it has no gradient"),
    Reason("too many cells", "ModelError", "compares every cell with every other"),
    Reason("no kernel in ONNX Runtime", "ModelError", "cannot open the model: .* NOT_IMPLEMENTED"),
    Reason("no kernel in ONNX Runtime", "NodeError", "rejected by ONNX Runtime .* NOT_IMPLEMENTED"),
)


def reason_of(error: str, message: str) -> Reason | None:
    """The first one that explains an error."""
    return next((reason for reason in REASONS if reason.explains(error, message)), None)
