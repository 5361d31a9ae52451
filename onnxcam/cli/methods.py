"""`onnxcam methods`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxcam.cli.options import Json
from onnxcam.cli.output import print_json, say, table

if TYPE_CHECKING:
    from onnxcam.methods import Recipe

EPILOG = """\b
Examples:
  onnxcam explain model.onnx cat.jpg --method grad-cam
  onnxcam explain model.onnx cat.jpg --set samples=50 --set numerator=d1
"""
SAMPLED = {
    "once": "one pass over the picture",
    "gaussian": "many passes over copies of the picture with Gaussian noise",
}


def methods(json: Json = False) -> None:
    """List the methods and their settings.

    Of each: what it computes, on which inputs, and its settings with their defaults.
    """
    from onnxcam.methods import METHODS

    if json:
        print_json([_entry(each) for each in METHODS.values()])
        return
    for number, recipe in enumerate(METHODS.values()):
        if number:
            say()
        _tell(recipe)


def _tell(recipe: Recipe) -> None:
    say(f"{recipe.name}  {recipe.source}", bold=True)
    say(f"  {recipe.summary}")
    say(f"  Runs: {SAMPLED.get(recipe.sampler.name, recipe.sampler.name)}.")
    if recipe.settings:
        rows = [(f"  {name}", each.default, each.meaning) for name, each in recipe.settings.items()]
        table(("  setting", "default", "meaning"), rows)


def _entry(recipe: Recipe) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "computes": recipe.summary,
        "sampler": recipe.sampler.name,
        "source": recipe.source,
        "settings": [
            {"name": name, "default": each.default, "meaning": each.meaning}
            for name, each in recipe.settings.items()
        ],
    }
