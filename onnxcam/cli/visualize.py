"""`onnxcam visualize`: make images that a class, a feature map, or a neuron responds to most."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from onnxcam.cli.ascent_options import (
    AscentBasis,
    AscentNoise,
    AscentRate,
    AscentVariation,
    Beta,
    Blur,
    Count,
    Decay,
    Jitter,
    Seed,
    Steps,
    Zoom,
)
from onnxcam.cli.explainer_options import explainer_options_without
from onnxcam.cli.options import Channels, Force, JsonLines, ModelFile, Out, Quiet, RegionOption

if TYPE_CHECKING:
    from onnxcam.ascent.descent import Step
    from onnxcam.ascent.visualize import Visualization
    from onnxcam.cli.progress import ProgressReporter

EPILOG = """\b
In the folder, these files are written, all or none; MODEL.SUBJECT.visualize is the beginning of their names:
  .png            all images on one sheet, with their scores
  .1.png, …       one image, as large as the model takes it
  .npz            `tensor` (N, …), as the model takes it; `scores` (N,); `history` (steps, N)
  .json           everything needed to make them again, and digests of the other files
  .checkpoint.npz the state of the optimizer: a later call with the same settings goes on from it, after an
                  interrupt or for more --steps

\b
Images start from noise and stay within black and white. They are shifted and enlarged at random before each
step, so that a maximum does not depend on single pixels.

\b
With --json, each line has the keys name, spec, seed, score, image, sheet, tensor and manifest.

\b
Examples:
  onnxcam visualize model.onnx -t 281
  onnxcam visualize model.onnx -t "tabby cat" -t ostrich --labels imagenet.txt --count 2 -o seen
  onnxcam visualize model.onnx -l 12 --channels 3,7 --steps 512
  onnxcam visualize model.onnx -l /layer3/Relu_output_0 --channels 3 --region 6:7,6:7
  onnxcam visualize model.onnx --channels @onnxcam-scan/cat.scan.json --count 1
  onnxcam visualize model.onnx -t 281 --basis pixels --blur 0.5 --variation 1
"""


@explainer_options_without("score", "fit", "pad", "no_cache")
def visualize(
    model: ModelFile,
    target: Annotated[
        list[str] | None,
        Option(
            "--target",
            "-t",
            metavar="TARGET",
            help="A class index, a label, a contrast like 281-282, or 'not cat'; repeat it for several; or "
            "element:NAME[4,17] or, for embeddings, similar:REFERENCE.",
            show_default=False,
        ),
    ] = None,
    layer: Annotated[
        str | None,
        Option(
            "--layer",
            "-l",
            metavar="NAME|NUMBER",
            help="Instead of a target: a layer listed by `onnxcam layers`, whose feature maps (--channels) are "
            "maximized.",
            show_default=False,
        ),
    ] = None,
    channels: Channels = None,
    region: RegionOption = None,
    count: Count = None,
    steps: Steps = None,
    seed: Seed = None,
    noise: AscentNoise = None,
    basis: AscentBasis = None,
    rate: AscentRate = None,
    decay: Decay = None,
    variation: AscentVariation = None,
    beta: Beta = None,
    blur: Blur = None,
    jitter: Jitter = None,
    zoom: Zoom = None,
    *,
    arguments: dict[str, Any],
    out: Out = Path("onnxcam-out"),
    force: Force = False,
    json: JsonLines = False,
    quiet: Quiet = False,
) -> None:
    """Make images that raise a score of MODEL the most.

    The score is that of a class, or of a feature map or a neuron of a layer.
    """
    from onnxcam.cli.ascent_output import report

    settings: dict[str, Any] = {
        "count": count,
        "steps": steps,
        "seed": seed,
        "noise": noise,
        "basis": basis,
        "rate": rate,
        "decay": decay,
        "variation": variation,
        "beta": beta,
        "blur": blur,
        "jitter": jitter,
        "zoom": zoom,
    }
    subject = {"target": target, **_read_scans(model, layer, channels, region)}
    report(
        lambda reporter: _run(reporter, model, out, {**subject, **settings, **arguments}),
        "visualize",
        lambda row: f"{row['name']} (seed {row['seed']}): {row['score']:.5g}",
        out,
        force=force,
        json=json,
        quiet=quiet,
    )


def _read_scans(
    model: Path, layer: str | None, channels: str | None, region: str | None
) -> dict[str, Any]:
    """The layer, the feature maps and the region, also from scans. SettingError for a scan of another model or
    layer.
    """
    from onnxcam.cli.scanned_subset import read_subsets, require_scanned_model
    from onnxcam.specs import AUTO

    said = {"layer": [layer or AUTO], "channels": channels, "region": region}
    arguments, subsets = read_subsets(said)
    if not subsets:
        return {**said, "layer": layer}
    require_scanned_model(subsets, model)
    (name,) = arguments["layer"]
    for subset in subsets:
        subset.require_layer(name)
    return {**arguments, "layer": name}


def _run(
    reporter: ProgressReporter, model: Path, out: Path, arguments: dict[str, Any]
) -> Visualization:
    from onnxcam.ascent.visualize import visualize as make

    def show(step: Step) -> None:
        images = len(step.scores)
        name = f"score {min(step.scores):.3g} to {max(step.scores):.3g}"
        reporter.start_image(name, step.number * images, step.total * images)

    return make(model, checkpoints=out, progress=show, **arguments)
