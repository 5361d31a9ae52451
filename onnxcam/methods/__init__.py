"""Formulas, samplers and finishing: NumPy and nothing else. `METHODS` is the table of all methods."""

from onnxcam.methods import cam
from onnxcam.methods.method import Recipe, Sampler, Setting
from onnxcam.methods.method import methods as METHODS  # noqa: N812  a table, spoken of as one

FAMILIES = (cam,)
DEFAULT_METHOD = "smooth-grad-cam++"

__all__ = ["DEFAULT_METHOD", "FAMILIES", "METHODS", "Recipe", "Sampler", "Setting"]
