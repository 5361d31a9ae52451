"""`onnxcam augment`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from onnxcam.cli.options import ModelFile, ScoreTensor
from onnxcam.cli.output import print_facts, say
from onnxcam.errors import BlockedError, MissingRuleError, ModelError, OutputError

if TYPE_CHECKING:
    from onnxcam.model.model import Model

EPILOG = """\b
The written model runs in any ONNX runtime, without onnxcam. It returns what the original returns, and
for each layer `activation/LAYER` and `gradient/LAYER`. Its extra input `seed` says of what the gradient
is: 1 at the class that is asked about and 0 at the others (one row a picture), or 1 and -1 for a contrast.

\b
Examples:
  onnxcam augment model.onnx -o model.grad.onnx
  onnxcam augment model.onnx -l /layer3/Relu_output_0 -l /layer4/Relu_output_0 -o model.grad.onnx
"""


def augment(
    model: ModelFile,
    out: Annotated[Path, Option("--out", "-o", metavar="OUT.onnx", help="The file to write.")],
    layer: Annotated[
        list[str] | None,
        Option(
            "--layer",
            "-l",
            metavar="NAME",
            help="A layer's name (`onnxcam layers`); more than one may be given.  [default: auto]",
            show_default=False,
        ),
    ] = None,
    output: ScoreTensor = None,
    force: Annotated[bool, Option("--force", help="Write over OUT.onnx if it is there.")] = False,
) -> None:
    """Write a model that returns gradients too.

    It is a plain .onnx file for any runtime.
    """
    _refuse(model, out, force)
    from onnxcam.autodiff.rules import DEFAULT
    from onnxcam.model.image_input import image_input
    from onnxcam.model.load import load
    from onnxcam.rewrite.gradient import augment as augmented
    from onnxcam.rewrite.hints import add_cure
    from onnxcam.rewrite.metadata_score import scored
    from onnxcam.runtime.model_validity import blames_invalid_models

    with blames_invalid_models(model):
        loaded = load(model)
        with_score, score = scored(loaded, output)
        try:
            written = augmented(with_score, _names(loaded, layer or ["auto"], output), score.logits)
        except (BlockedError, MissingRuleError) as error:
            image = image_input(with_score).name
            raise add_cure(error, with_score, image, score.logits, DEFAULT) from error
    files = written.save(out)
    size = sum(each.stat().st_size for each in files) / 1e6
    say(f"{' and '.join(map(str, files))}: {size:.1f} MB, opset {written.opset}")
    _tell(written, score.logits)


def _refuse(model: Path, out: Path, force: bool) -> None:
    if out.exists() and model.exists() and out.samefile(model):
        raise OutputError(f"{out}: is the model itself; choose another file")
    if out.exists() and not force:
        raise OutputError(f"{out}: is there already; choose another file, or --force")


def _names(model: Model, asked: list[str], output: str | None) -> list[str]:
    """The layers, with `auto` replaced by its choice."""
    from onnxcam.rewrite.planner import layers

    chosen = [each.name for each in layers(model, output) if each.automatic]
    if "auto" in asked and not chosen:
        raise ModelError(
            f"{model.name}: no automatic layer; choose one with --layer (`layers --all`)"
        )
    return list(dict.fromkeys(chosen[0] if each == "auto" else each for each in asked))


def _tell(model: Model, score: str) -> None:
    from onnxcam.rewrite.gradient import SEED

    graph = model.graph
    print_facts([(f"  in   {each.name}", _kind(each)) for each in graph.inputs])
    print_facts([(f"  out  {each.name}", _kind(each)) for each in graph.outputs])
    seed = next(each for each in graph.inputs if each.name == SEED)
    say(
        f"feed {SEED!r} with the cotangent of {score!r}, {_kind(seed)}: "
        "1 at the class that is asked about, 0 at the others"
    )


def _kind(tensor: object) -> str:
    dtype, shape = getattr(tensor, "dtype", None), getattr(tensor, "shape", None)
    return f"{dtype} ({', '.join(map(str, shape or ()))})"
