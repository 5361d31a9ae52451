"""`onnxcam methods`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxcam.cli.options import Json
from onnxcam.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from onnxcam.methods import Recipe

EPILOG = """\b
Examples:
  onnxcam explain model.onnx cat.jpg --method grad-cam
  onnxcam explain model.onnx cat.jpg --set samples=50 --set numerator=d1
"""
SAMPLED = {
    "once": "the image once",
    "gaussian": "many copies of the image with Gaussian noise",
}


def methods(json: Json = False) -> None:
    """List the methods and their settings.

    Shows what each method computes, on which inputs, and its settings with their defaults.
    """
    from onnxcam.methods import METHODS

    if json:
        print_json([_method_to_json(recipe) for recipe in METHODS.values()])
        return
    for number, recipe in enumerate(METHODS.values()):
        if number:
            say()
        _print_method(recipe)


def _print_method(recipe: Recipe) -> None:
    say(f"{recipe.name}  {recipe.source}", bold=True)
    say(f"  {recipe.summary}")
    say(f"  Runs {SAMPLED.get(recipe.sampler.name, recipe.sampler.name)}.")
    if recipe.settings:
        rows = [
            (f"  {name}", setting.default, setting.meaning)
            for name, setting in recipe.settings.items()
        ]
        print_table(("  setting", "default", "meaning"), rows)


def _method_to_json(recipe: Recipe) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "computes": recipe.summary,
        "sampler": recipe.sampler.name,
        "source": recipe.source,
        "settings": [
            {"name": name, "default": setting.default, "meaning": setting.meaning}
            for name, setting in recipe.settings.items()
        ],
    }
