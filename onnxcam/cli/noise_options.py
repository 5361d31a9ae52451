"""The options of noisy copies, of all commands that run a method."""

from __future__ import annotations

from typing import Any

from onnxcam.cli.option_group import options_of
from onnxcam.cli.options import Noise, Samples, Seed


def _settings(samples: Samples = None, noise: Noise = None, seed: Seed = None) -> dict[str, Any]:
    """The settings of a method that the options stand for."""
    return {"samples": samples, "noise": noise, "seed": seed}


noise_options = options_of(_settings, "noise_settings")
