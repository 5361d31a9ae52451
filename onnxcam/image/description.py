"""What a source (metadata, a file beside the model, the graph) says about how images are prepared."""

from __future__ import annotations

from typing import NamedTuple

from onnxcam.image.preprocess import Preprocessing

ASSUMABLE = ("scale", "mean", "std", "order", "fit")  # the settings that have an option


class Description(NamedTuple):
    """The preprocessing that a source describes, and the names of the settings that it leaves open."""

    preprocessing: Preprocessing
    assumed: tuple[str, ...] = ()
