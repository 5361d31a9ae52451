"""`onnxcam invert`: show what the layers of a model still know of an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from onnxcam.cli.ascent_options import (
    Beta,
    Blur,
    InversionBasis,
    InversionNoise,
    InversionRate,
    InversionVariation,
    Norm,
    Power,
    Seed,
    Slowing,
    Steps,
)
from onnxcam.cli.explainer_options import explainer_options_without
from onnxcam.cli.options import Force, JsonLines, ModelFile, Out, Quiet

if TYPE_CHECKING:
    from onnxcam.ascent.descent import Step
    from onnxcam.ascent.invert import Inversion
    from onnxcam.cli.progress import ProgressReporter

EPILOG = """\b
In the folder, these files are written, all or none; IMAGE.MODEL.invert is the beginning of their names:
  .png            the image and a row of reconstructions, with their relative errors
  .1.png, …       one reconstruction, as large as the model takes it
  .npz            `tensor` (L, …), as the model takes it; `errors` (L,); `history` (L, steps)
  .json           everything needed to make them again, and digests of the other files
  .LAYER.checkpoint.npz  the state of the optimizer: a later call with the same settings goes on from it

\b
The relative error at a layer f is ||f(x) - f(x0)|| / ||f(x0)||.

\b
With --json, each line has the keys layer, relative_error, image, sheet, tensor and manifest.

\b
Examples:
  onnxcam invert model.onnx cat.jpg
  onnxcam invert model.onnx cat.jpg -l /layer2/Relu_output_0 -l /layer4/Relu_output_0 --steps 512
  onnxcam invert model.onnx cat.jpg -l logits --variation 0.3
"""


@explainer_options_without("labels", "score", "no_cache")
def invert(
    model: ModelFile,
    image: Annotated[
        Path,
        Argument(
            metavar="IMAGE",
            help="An image, or an array that is preprocessed already (npy, npz, npz:key).",
        ),
    ],
    layer: Annotated[
        list[str] | None,
        Option(
            "--layer",
            "-l",
            metavar="NAME|NUMBER",
            help="A layer listed by `onnxcam layers`, or any tensor by its exact name; repeat it for several.  "
            "[default: five layers from the first to the last]",
            show_default=False,
        ),
    ] = None,
    steps: Steps = None,
    seed: Seed = None,
    noise: InversionNoise = None,
    basis: InversionBasis = None,
    rate: InversionRate = None,
    slowing: Slowing = None,
    norm: Norm = None,
    power: Power = None,
    variation: InversionVariation = None,
    beta: Beta = None,
    blur: Blur = None,
    *,
    arguments: dict[str, Any],
    out: Out = Path("onnxcam-out"),
    force: Force = False,
    json: JsonLines = False,
    quiet: Quiet = False,
) -> None:
    """Show what the layers of MODEL still know of IMAGE.

    For each layer, an image is made that has the same activations there.
    """
    from onnxcam.cli.ascent_output import report

    settings: dict[str, Any] = {
        "steps": steps,
        "seed": seed,
        "noise": noise,
        "basis": basis,
        "rate": rate,
        "slowing": slowing,
        "norm": norm,
        "power": power,
        "variation": variation,
        "beta": beta,
        "blur": blur,
    }
    report(
        lambda reporter: _run(
            reporter, model, image, layer or ["auto"], out, {**settings, **arguments}
        ),
        "invert",
        lambda row: f"{row['layer']}: relative error {row['relative_error']:.4g}",
        out,
        force=force,
        json=json,
        quiet=quiet,
    )


def _run(
    reporter: ProgressReporter,
    model: Path,
    image: Path,
    layers: list[str],
    out: Path,
    arguments: dict[str, Any],
) -> Inversion:
    from onnxcam.ascent.invert import invert as make

    def show(layer: str, step: Step) -> None:
        name = f"{layer}: relative error {float(step.scores[0]) ** 0.5:.3g}"
        steps = step.layer * step.total + step.number
        reporter.start_image(name, steps, step.layers * step.total)

    return make(model, image, layers, checkpoints=out, progress=show, **arguments)
