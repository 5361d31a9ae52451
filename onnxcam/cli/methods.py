"""`onnxcam methods`: list the methods and their settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from typer import Argument

from onnxcam.cli.options import Json
from onnxcam.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from onnxcam.methods import Method
    from onnxcam.methods.settings import Setting

EPILOG = """\b
The columns of the list:
  place     where the map comes from: a layer (--layer), the image, or tensors that the method finds itself
  runs      how often the model is run on an image of 224 x 224 pixels with the default settings; "varies": it
            depends on the model
  gradient  whether the model needs gradients; a method without takes operators that have no gradient rule
  embeds    whether the map can be written into the model, as another output; NAME says why not

\b
With --json, each method has the keys name, family, computes, source, place, passes (null: it depends on the
model), signed, needs_gradient, needs_target, rules, sampler, runs, embedding_refusal (null: it embeds) and
settings; each setting has name, default, meaning, choices, lowest and highest (null for no limit).

\b
Examples:
  onnxcam methods
  onnxcam methods grad-cam integrated-gradients
  onnxcam explain model.onnx cat.jpg --method grad-cam
  onnxcam explain model.onnx cat.jpg --set samples=50 --set numerator=d1
"""
HEADINGS = ("method", "place", "runs", "gradient", "embeds", "computes")

Names: TypeAlias = Annotated[
    list[str] | None,
    Argument(
        metavar="NAME",
        show_default=False,
        help="Show everything about these methods. [default: a list]",
    ),
]


def methods(names: Names = None, json: Json = False) -> None:
    """List the methods by family, or show the settings of some.

    A is the activation of the layer, x the image, g the gradient of the score at the layer, and w_k the weight
    of feature map k in the map.
    """
    from onnxcam.methods import METHODS

    chosen = [METHODS[name] for name in names or METHODS]
    if json:
        print_json([_method_to_json(method) for method in chosen])
    elif names:
        for number, method in enumerate(chosen):
            say(*([""] if number else []))
            _print_method(method)
    else:
        _print_list(chosen)


def _print_list(chosen: Sequence[Method]) -> None:
    """One line per method, under the heading of its family; all columns are aligned."""
    from onnxcam.methods.families import FAMILIES

    rows = [HEADINGS, *map(_row, chosen)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS) - 1)]
    for family, heading in FAMILIES.items():
        members = [method for method in chosen if method.family == family]
        if members:
            say(heading, bold=True)
            print_table(_padded(HEADINGS, widths), [_padded(_row(m), widths) for m in members])
            say()
    say(
        "onnxcam methods NAME shows the settings, the paper, and what else is special about a method."
    )


def _row(method: Method) -> tuple[str, ...]:
    from onnxcam.methods.embedding import embedding_refusal

    passes = "varies" if method.passes is None else str(method.passes)
    gradient = "yes" if method.needs_gradient else "no"
    embeds = "no" if embedding_refusal(method) else "yes"
    return method.name, method.place, passes, gradient, embeds, method.summary


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [*(cell.ljust(size) for cell, size in zip(row, widths, strict=False)), row[-1]]


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
    yield _place_remark(method)
    if method.signed:
        yield "Signed: negative values are evidence against the target."
    if method.is_relative:
        yield "Only differences within a map have a meaning: it is drawn from its minimum."
    if not method.needs_target:
        yield "The same map for every target."
    if not method.needs_gradient:
        yield "Needs no gradient, so it takes models whose operators have no gradient rule."
    elif method.rules != "default":
        yield f"The gradient follows the rule table {method.rules}."
    yield _embedding_remark(method)


def _embedding_remark(method: Method) -> str:
    from onnxcam.methods.embedding import embedding_refusal

    if reason := embedding_refusal(method):
        return f"Its map cannot be embedded in a model: {reason}."
    chosen = ", ".join(f"{name}={value}" for name, value in method.sampler.embedded.items())
    return f"Its map can be embedded in a model{f', with {chosen}' if chosen else ''}."


def _place_remark(method: Method) -> str:
    from onnxcam.methods.place import IMAGE

    if method.has_layer:
        return "Its map is that of a layer (--layer)."
    if method.at == IMAGE:
        return "Its map is that of the image's pixels, so there is no layer to choose."
    return f"Its map joins tensors that it finds itself ({method.place}), so there is no layer to choose."


def _method_to_json(method: Method) -> dict[str, Any]:
    from onnxcam.methods.embedding import embedding_refusal

    return {
        "name": method.name,
        "family": method.family,
        "computes": method.summary,
        "source": method.source,
        "place": method.place,
        "passes": method.passes,
        "signed": method.signed,
        "needs_gradient": method.needs_gradient,
        "needs_target": method.needs_target,
        "rules": method.rules,
        "sampler": method.sampler.name,
        "runs": method.sampler.description,
        "embedding_refusal": embedding_refusal(method),
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
