"""A valid model to damage."""

from functools import cache

import onnxcam
from tests.support.nets import DEEP, random_images

X = random_images(1)


@cache
def model() -> onnxcam.Model:
    return onnxcam.load(DEEP.content())
