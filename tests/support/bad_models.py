"""A valid model to damage."""

from functools import cache

import onnxcam
from tests.support.nets import DEEP, pictures

X = pictures(1)


@cache
def model() -> onnxcam.Model:
    return onnxcam.load(DEEP.content())
