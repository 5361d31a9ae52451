"""`onnxcam methods`: list the methods and their settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from onnxcam.cli.options import Json
from onnxcam.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from onnxcam.methods import Method
    from onnxcam.methods.settings import Setting

EPILOG = """\b
With --json, each method has the keys name, family, computes, source, place, signed, needs_gradient,
needs_target, rules, sampler, runs and settings; each setting has name, default, meaning, choices, lowest and
highest (null for no limit).

\b
Examples:
  onnxcam explain model.onnx cat.jpg --method grad-cam
  onnxcam explain model.onnx cat.jpg --set samples=50 --set numerator=d1
"""


def methods(json: Json = False) -> None:
    """List the methods and their settings.

    Shows what each method computes, on which inputs, and its settings with their defaults and the values they
    take. A is the activation of the layer, x the image, g the gradient of the score at the layer, and w_k the
    weight of feature map k in the map.
    """
    from onnxcam.methods import METHODS
    from onnxcam.methods.place import IMAGE, LAYER

    if json:
        print_json([_method_to_json(method) for method in METHODS.values()])
        return
    headings = {
        LAYER: "Methods at a layer (--layer): which cells of the layer count",
        IMAGE: "Methods at the image: which pixels count",
        "": "Methods at several tensors of the model",
    }
    for number, (place, heading) in enumerate(headings.items()):
        group = [method for method in METHODS.values() if _heading_of(method, headings) == place]
        if group:
            say(*([""] if number else []), heading, bold=True)
        for method in group:
            say()
            _print_method(method)


def _heading_of(method: Method, headings: dict[str, str]) -> str:
    return method.place if method.place in headings else ""


def _print_method(method: Method) -> None:
    say(f"{method.name}  {method.source}", bold=True)
    say(f"  {method.summary}")
    say(f"  Runs {method.sampler.description}.")
    for remark in _remarks(method):
        say(f"  {remark}")
    if method.settings:
        rows = [
            (f"  {name}", _default_text(setting), setting.allowed, setting.meaning)
            for name, setting in method.settings.items()
        ]
        print_table(("  setting", "default", "values", "meaning"), rows)


def _default_text(setting: Setting) -> object:
    return "none" if setting.default is None else setting.default


def _remarks(method: Method) -> Iterator[str]:
    """What is special about a method."""
    if method.signed:
        yield "Signed: negative values are evidence against the target."
    if not method.needs_target:
        yield "The same map for every target."
    if not method.needs_gradient:
        yield "Needs no gradient, so it takes models whose operators have no gradient rule."
    elif method.rules != "default":
        yield f"The gradient follows the rule table {method.rules}."


def _method_to_json(method: Method) -> dict[str, Any]:
    return {
        "name": method.name,
        "family": method.family,
        "computes": method.summary,
        "source": method.source,
        "place": method.place,
        "signed": method.signed,
        "needs_gradient": method.needs_gradient,
        "needs_target": method.needs_target,
        "rules": method.rules,
        "sampler": method.sampler.name,
        "runs": method.sampler.description,
        "settings": [
            {"name": name, **_setting_to_json(setting)} for name, setting in method.settings.items()
        ],
    }


def _setting_to_json(setting: Setting) -> dict[str, Any]:
    lowest, highest = setting.limits
    return {
        "default": setting.default,
        "meaning": setting.meaning,
        "choices": list(setting.choices) or None,
        "lowest": lowest,
        "highest": highest,
    }
