"""Notices as warnings of Python."""

from __future__ import annotations

import warnings

from onnxcam.errors import OnnxcamNotice
from onnxcam.explain.explanation import Explanation

CALLER = 3  # the frame that called the function that called `announce`


def announce(explanation: Explanation, announced: set[str]) -> Explanation:
    """The explanation itself, after a warning about each of its notices that was not `announced` yet. The
    warnings name the line that called the calling function.
    """
    for notice in explanation.notices:
        if notice not in announced:
            announced.add(notice)
            warnings.warn(notice, OnnxcamNotice, stacklevel=CALLER)
    return explanation
