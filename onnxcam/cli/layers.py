"""`onnxcam layers`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from onnxcam.cli.options import Json, ModelFile, ScoreTensor
from onnxcam.cli.output import print_json, say, table

if TYPE_CHECKING:
    from onnxcam.specs import Layer

EPILOG = """\b
Marks:
  auto   what `--layer auto` takes for a method that runs the picture once (grad-cam); several, where the
         branches of the model meet only behind their last cells: their maps are fused
  smooth what it takes for one that smooths (smooth-grad-cam++): the gradient there depends on the picture
  whole  everything that the score sees of the picture passes through it
  unread the score reads none of its cells, but only tokens beside them (--all): a map would be empty

\b
Layouts:
  NCHW, NHWC  a grid of cells with its channels before or behind it
  NTC, NCT    tokens: the cells row by row, and maybe "+1" class token or more that are no cells

\b
Examples:
  onnxcam layers model.onnx
  onnxcam layers model.onnx --all | grep Conv
  onnxcam explain model.onnx cat.jpg --layer NAME
  onnxcam explain model.onnx cat.jpg --layer "*blocks.11/norm1*"
"""
HEADINGS = ("layer", "operator", "shape", "layout", "grid", "channels", "marks")


def layers(
    model: ModelFile,
    every: Annotated[
        bool,
        Option("--all", help="Also layers that a part of the picture's evidence goes around."),
    ] = False,
    output: ScoreTensor = None,
    json: Json = False,
) -> None:
    """List the layers that a map can be drawn of.

    They stand in order, from the picture to the score. The last ones tell what belongs to the class, on a
    coarse grid of cells; earlier ones are finer, and tell of parts and outlines.
    """
    from onnxcam.model.load import load
    from onnxcam.rewrite.planner import layers as layers_of
    from onnxcam.runtime.model_validity import blames_invalid_models

    with blames_invalid_models(model):
        found = layers_of(load(model), output)
    shown = [each for each in found if every or each.is_bottleneck or each.automatic]
    if json:
        print_json([entry(each) for each in shown])
        return
    table(HEADINGS, [_row(each) for each in shown])
    if len(shown) < len(found):
        say(f"{len(found) - len(shown)} more, inside of branches: --all", err=True)


def entry(layer: Layer) -> dict[str, Any]:
    """A layer for JSON."""
    return {
        "name": layer.name,
        "operator": layer.op,
        "shape": list(layer.shape),
        "layout": layer.layout,
        "grid": list(layer.grid),
        "tokens": {"before": layer.tokens_before, "after": layer.tokens_after},
        "channels": layer.channels,
        "whole": layer.is_bottleneck,
        "unread": layer.ignored_by_score,
        "automatic": layer.automatic,
        "automatic_smooth": layer.auto_for_smoothing,
    }


def _row(layer: Layer) -> tuple[object, ...]:
    named = {
        "auto": layer.automatic,
        "smooth": layer.auto_for_smoothing,
        "whole": layer.is_bottleneck,
        "unread": layer.ignored_by_score,
    }
    marks = [mark for mark, given in named.items() if given]
    shape, grid = (" x ".join(map(str, each)) for each in (layer.shape, layer.grid))
    extra = f" +{layer.tokens}" if layer.tokens else ""
    return layer.name, layer.op, shape, layer.layout, grid + extra, layer.channels, " ".join(marks)
