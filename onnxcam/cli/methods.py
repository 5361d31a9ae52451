"""`onnxcam methods`: list the methods and their settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxcam.cli.options import Json
from onnxcam.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from onnxcam.methods import Method

EPILOG = """\b
Examples:
  onnxcam explain model.onnx cat.jpg --method grad-cam
  onnxcam explain model.onnx cat.jpg --set samples=50 --set numerator=d1
"""


def methods(json: Json = False) -> None:
    """List the methods and their settings.

    Shows what each method computes, on which inputs, and its settings with their defaults. A is the activation
    of the layer, g the gradient of the score at the layer, and w_k the weight of feature map k in the map.
    """
    from onnxcam.methods import METHODS

    if json:
        print_json([_method_to_json(method) for method in METHODS.values()])
        return
    for number, method in enumerate(METHODS.values()):
        if number:
            say()
        _print_method(method)


def _print_method(method: Method) -> None:
    say(f"{method.name}  {method.source}", bold=True)
    say(f"  {method.summary}")
    say(f"  Runs {method.sampler.description}.")
    if method.settings:
        rows = [
            (f"  {name}", setting.default, setting.meaning)
            for name, setting in method.settings.items()
        ]
        print_table(("  setting", "default", "meaning"), rows)


def _method_to_json(method: Method) -> dict[str, Any]:
    return {
        "name": method.name,
        "computes": method.summary,
        "sampler": method.sampler.name,
        "source": method.source,
        "settings": [
            {"name": name, "default": setting.default, "meaning": setting.meaning}
            for name, setting in method.settings.items()
        ],
    }
