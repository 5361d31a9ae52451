"""`onnxcam explain`: draw where a model looked, for each image and target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer import Exit

from onnxcam.cli.options import (
    Caption,
    Channels,
    Chunk,
    ColormapName,
    DeviceName,
    Fit,
    Force,
    Fuse,
    Images,
    InputValues,
    JsonLines,
    Labels,
    LayerNames,
    LongestSide,
    Mean,
    Method,
    ModelFile,
    NoCache,
    Noise,
    Opacity,
    Order,
    Out,
    Preprocess,
    Quiet,
    Recursive,
    RegionOption,
    Samples,
    Scale,
    ScoreKind,
    ScoreTensor,
    Seed,
    Settings,
    SideBySide,
    Size,
    SkipExisting,
    Std,
    Targets,
)
from onnxcam.cli.output import say
from onnxcam.defaults import DEFAULT_METHOD
from onnxcam.errors import OutputError

if TYPE_CHECKING:
    from onnxcam.cli.batch_job import Job
    from onnxcam.explain.explainer import Explainer

EPILOG = """\b
For each image, all or none of these files are written:
  NAME.METHOD.png   the heat map over the image
  NAME.METHOD.npz   the raw map, and the map at the size of the layer, for NumPy
  NAME.METHOD.json  everything needed to repeat the result, and digests of the other two files
With several targets, their names are NAME.TARGET.METHOD.
Results of earlier runs are replaced. A file with one of these names but no matching .json was not written
by onnxcam and is not touched unless you pass --force.

\b
The score of a class is printed with its probability, "12.3 (p = 0.874)", if the model ends in a Softmax or
Sigmoid of the logits.

\b
With --json, each line has the keys image, target, index, score and probability (null without one), layers,
method, is_empty, overlay, map, manifest, skipped and error. For an image that failed, it has only image and
error.

\b
Exit codes: 0: success; 1: some images failed (they are listed); 2: the model or a setting is invalid.

\b
Examples:
  onnxcam explain model.onnx cat.jpg
  onnxcam explain model.onnx photos/ --recursive --skip-existing -o maps
  onnxcam explain model.onnx cat.jpg -t top1 -t top2 -t 281-282 --labels imagenet.txt
  onnxcam explain model.onnx cat.jpg -l 72
  onnxcam explain model.onnx cat.jpg -m grad-cam++ -l /layer3/Relu_output_0 -l /layer4/Relu_output_0
  onnxcam explain model.onnx cat.jpg -n 50 --noise 0.2 --seed 7 --set numerator=d1
  onnxcam explain model.onnx cat.jpg --channels 3,7,10-20 --region 0:4,0:7
  onnxcam explain model.onnx cat.jpg --preprocess tf --size 192,192 --fit squash
  onnxcam explain detector.onnx cat.jpg --input orig_target_sizes=640,480
  onnxcam explain model.onnx cat.jpg --json | jq .target
"""


def explain(
    model: ModelFile,
    images: Images,
    method: Method = DEFAULT_METHOD,
    layer: LayerNames = None,
    target: Targets = None,
    labels: Labels = None,
    samples: Samples = None,
    noise: Noise = None,
    seed: Seed = None,
    settings: Settings = None,
    score: ScoreKind = "logit",
    output: ScoreTensor = None,
    inputs: InputValues = None,
    channels: Channels = None,
    region: RegionOption = None,
    fuse: Fuse = "max",
    preprocess: Preprocess = "auto",
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    order: Order = None,
    fit: Fit = None,
    device: DeviceName = "auto",
    chunk: Chunk = None,
    no_cache: NoCache = False,
    out: Out = Path("onnxcam-out"),
    recursive: Recursive = False,
    skip_existing: SkipExisting = False,
    force: Force = False,
    colormap: ColormapName = None,
    opacity: Opacity = 0.6,
    longest_side: LongestSide = 1024,
    side_by_side: SideBySide = False,
    caption: Caption = False,
    json: JsonLines = False,
    quiet: Quiet = False,
) -> None:
    """Draw where MODEL looked, for each image and target."""
    from onnxcam.cli import parsing
    from onnxcam.cli.batch_job import Job
    from onnxcam.cli.image_files import collect_images

    paths, notices = collect_images(images, recursive=recursive, out=out)
    options = {"samples": samples, "noise": noise, "seed": seed}
    method_settings = parsing.method_settings(method, settings or [], options)
    method_settings["score"] = parsing.score_kind(score, method_settings.pop("score", None))
    pixel_settings: dict[str, Any] = {
        "scale": scale,
        "order": order,
        "fit": fit,
        "size": parsing.parse_size(size),
        "mean": parsing.parse_numbers("--mean", mean),
        "std": parsing.parse_numbers("--std", std),
    }
    arguments = {
        "device": device,
        "labels": labels or "auto",
        "output": output,
        "chunk": chunk,
        "channels": channels,
        "region": region,
        "fuse": fuse,
        "inputs": parsing.parse_inputs(inputs or []),
        "preprocess": preprocess,
        "cache": not no_cache,
    }
    explainer = _make_explainer(
        model, method, layer or ["auto"], arguments | method_settings, pixel_settings
    )
    drawing = {
        "colormap": colormap,
        "opacity": opacity,
        "longest_side": longest_side,
        "side_by_side": side_by_side,
        "caption": caption,
    }
    targets = list(dict.fromkeys(target or ["top1"]))
    job = Job(explainer, paths, targets, out, drawing, skip_existing, force)
    _run_job(job, notices, quiet=quiet, json=json)


def _make_explainer(
    model: Path, method: str, layers: list[str], arguments: dict[str, Any], pixels: dict[str, Any]
) -> Explainer:
    from onnxcam.explain.explainer import Explainer

    return Explainer(model, method, layers, pixels=pixels, **arguments)


def _run_job(job: Job, notices: list[str], *, quiet: bool, json: bool) -> None:
    from onnxcam.cli.progress import ProgressReporter
    from onnxcam.image.colormap import choose_colormap

    # an unknown or unsuitable one fails before the work, not after it
    choose_colormap(job.drawing["colormap"], signed=job.explainer.method.signed)
    _make_folder(job.out)
    with ProgressReporter(len(job.images) * job.passes, quiet=quiet, json=json) as reporter:
        for notice in (*notices, *job.explainer.notices, job.explainer.preprocessing_notice):
            if notice:
                reporter.note(f"note: {notice}")
        job.run(reporter)
    reporter.note(_summary(job))
    for path, error in job.failures.items():
        say(error if error.startswith(str(path)) else f"{path}: {error}", err=True)
    if job.failures:
        raise Exit(1)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot create the folder {out} ({error.strerror}); choose another --out"
        ) from error


def _summary(job: Job) -> str:
    count, device = job.written, job.explainer.device
    summary = f"{count} map{'' if count == 1 else 's'} written to {job.out}, run on {device}"
    if job.skipped:
        summary += f", {job.skipped} already existed"
    if job.failures:
        summary += f"; {len(job.failures)} of {len(job.images)} images failed:"
    return summary
