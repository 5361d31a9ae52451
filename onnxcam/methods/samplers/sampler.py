"""What a sampler is: the inputs on which a method runs the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnxcam.methods.settings import Setting


@dataclass(frozen=True)
class Sampler:
    """The inputs on which a method runs the model, and the settings that choose them. `smooths` is True if
    quantities are averaged over noisy samples.
    """

    name: str
    description: str
    settings: Mapping[str, Setting]
    smooths: bool = False
