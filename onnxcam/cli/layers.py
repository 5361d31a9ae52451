"""`onnxcam layers`: list the layers that a map can be drawn for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from onnxcam.cli.options import HeadText, InputValues, Json, ModelFile, ScoreTensor, TaskName
from onnxcam.cli.output import print_json, print_table_of_names, say

if TYPE_CHECKING:
    from onnxcam.specs import Layer

EPILOG = """\b
The column # is the number of a layer, for `--layer 72`. It counts all layers, so it is the same with and
without --all. On a terminal, long names are cut in the middle (…), and columns that do not fit are left
out; in a file or a pipe, nothing is.

\b
Marks:
  auto        the choice of `--layer auto` for a method that runs the image once (grad-cam); several layers
              are marked, and their maps are fused, if no single one holds all evidence, as in a detector
              with several grids
  smooth      the choice of `--layer auto` for a method that averages over noisy copies (smooth-grad-cam++):
              the gradient at this layer depends on the image
  bottleneck  all information from the image to the score passes through this layer
  ignored     the score uses only the tokens next to the cells, so a map would be empty (only with --all)

\b
Layouts:
  NCHW, NHWC  a grid of cells, with the channels before or after it
  NTC, NCT    tokens: the cells row by row; "+1" is the number of tokens that are not cells, such as the
              class token

\b
Examples:
  onnxcam layers model.onnx
  onnxcam layers model.onnx --all | grep Conv
  onnxcam explain model.onnx cat.jpg --layer 72
  onnxcam explain model.onnx cat.jpg --layer NAME
  onnxcam explain model.onnx cat.jpg --layer "*blocks.11/norm1*"
"""
HEADINGS = ("#", "layer", "operator", "shape", "layout", "grid", "channels", "marks")
OPTIONAL = (
    "shape",
    "layout",
    "channels",
    "operator",
)  # left out on a narrow terminal, in this order


def layers(
    model: ModelFile,
    show_all: Annotated[
        bool,
        Option("--all", help="Also list layers inside branches, which some evidence bypasses."),
    ] = False,
    output: ScoreTensor = None,
    task: TaskName = None,
    head: HeadText = None,
    inputs: InputValues = None,
    json: Json = False,
) -> None:
    """List the layers that a map can be drawn for.

    They are listed in order, from the image to the score. The last layers show what belongs to the class, on
    a coarse grid of cells; earlier layers have finer grids and show parts and outlines.
    """
    from onnxcam.cli.parsing import parse_inputs
    from onnxcam.explain.head_choice import parse_head
    from onnxcam.explain.image_values import read_inputs
    from onnxcam.model.image_axes import for_images
    from onnxcam.model.load import load
    from onnxcam.rewrite.planner import layers as layers_of
    from onnxcam.runtime.model_validity import blames_invalid_models

    with blames_invalid_models(model):
        loaded = for_images(load(model, read_inputs(model, parse_inputs(inputs or []))))
        all_layers = layers_of(loaded, output, parse_head(task, head))
    shown_layers = [
        layer for layer in all_layers if show_all or layer.is_bottleneck or layer.automatic
    ]
    if json:
        print_json([layer_to_json(layer) for layer in shown_layers])
        return
    rows = [_format_row(layer) for layer in shown_layers]
    print_table_of_names(HEADINGS, rows, "layer", OPTIONAL)
    if len(shown_layers) < len(all_layers):
        count = len(all_layers) - len(shown_layers)
        say(
            f"{count} more layer{'' if count == 1 else 's'} inside branches (list with --all)",
            err=True,
        )


def layer_to_json(layer: Layer) -> dict[str, Any]:
    """A layer as values of JSON."""
    return {
        "number": layer.number,
        "name": layer.name,
        "operator": layer.op,
        "shape": list(layer.shape),
        "layout": layer.layout,
        "grid": list(layer.grid),
        "tokens_before": layer.tokens_before,
        "tokens_after": layer.tokens_after,
        "channels": layer.channels,
        "is_bottleneck": layer.is_bottleneck,
        "ignored_by_score": layer.ignored_by_score,
        "automatic": layer.automatic,
        "auto_for_smoothing": layer.auto_for_smoothing,
    }


def _format_row(layer: Layer) -> tuple[object, ...]:
    marks = {
        "auto": layer.automatic,
        "smooth": layer.auto_for_smoothing,
        "bottleneck": layer.is_bottleneck,
        "ignored": layer.ignored_by_score,
    }
    applying_marks = " ".join(mark for mark, applies in marks.items() if applies)
    shape, grid = (" x ".join(map(str, dims)) for dims in (layer.shape, layer.grid))
    tokens = f" +{layer.tokens}" if layer.tokens else ""
    sizes = shape, layer.layout, grid + tokens, layer.channels
    return layer.number, layer.name, layer.op, *sizes, applying_marks
