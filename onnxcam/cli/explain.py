"""`onnxcam explain`"""

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
    JsonLines,
    Labels,
    LayerNames,
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
from onnxcam.errors import OutputError

if TYPE_CHECKING:
    from onnxcam.cli.batch_job import Job
    from onnxcam.explain.explainer import Explainer

EPILOG = """\b
Written for each picture, whole or not at all:
  NAME.METHOD.png   the heat map over the picture
  NAME.METHOD.npz   the raw map, and the coarse one of the layer, for NumPy
  NAME.METHOD.json  everything needed to make the map again, and digests of the other two
Results of earlier runs are replaced. A file with such a name but without such a .json is yours, and is
kept unless you pass --force.

\b
With --json each line holds picture, target, index, score, layers, method, empty, overlay, map, manifest,
skipped and error; of a picture that failed picture and error.

\b
Exit codes: 0; 1 if some pictures failed (they are listed); 2 if the model or a setting is wrong.

\b
Examples:
  onnxcam explain model.onnx cat.jpg
  onnxcam explain model.onnx photos/ --recursive --skip-existing -o maps
  onnxcam explain model.onnx cat.jpg -t top1 -t top2 -t 281-282 --labels imagenet.txt
  onnxcam explain model.onnx cat.jpg -m grad-cam++ -l /layer3/Relu_output_0 -l /layer4/Relu_output_0
  onnxcam explain model.onnx cat.jpg -n 50 --noise 0.2 --seed 7 --set numerator=d1
  onnxcam explain model.onnx cat.jpg --channels 3,7,10-20 --region 0:4,0:7
  onnxcam explain model.onnx cat.jpg --preprocess tf --size 192,192 --fit squash
  onnxcam explain model.onnx cat.jpg --json | jq .target
"""


def explain(
    model: ModelFile,
    images: Images,
    method: Method = "smooth-grad-cam++",
    layer: LayerNames = None,
    target: Targets = None,
    labels: Labels = None,
    samples: Samples = None,
    noise: Noise = None,
    seed: Seed = None,
    given: Settings = None,
    score: ScoreKind = "logit",
    output: ScoreTensor = None,
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
    colormap: ColormapName = "ember",
    opacity: Opacity = 0.6,
    side_by_side: SideBySide = False,
    caption: Caption = False,
    json: JsonLines = False,
    quiet: Quiet = False,
) -> None:
    """Draw where MODEL looked, for each picture and target."""
    from onnxcam.cli import image_files as pictures
    from onnxcam.cli import parsing as settings
    from onnxcam.cli.batch_job import Job

    found, left_out = pictures.collect_images(images, recursive=recursive, out=out)
    short = {"samples": samples, "noise": noise, "seed": seed}
    own = settings.method_settings(method, given or [], short)
    own["score"] = settings.score_kind(score, own.pop("score", None))
    pixels: dict[str, Any] = {
        "scale": scale,
        "order": order,
        "fit": fit,
        "size": settings.size(size),
    }
    pixels |= {"mean": settings.numbers("--mean", mean), "std": settings.numbers("--std", std)}
    asked = {"device": device, "labels": labels or "auto", "output": output, "chunk": chunk, **own}
    asked |= {"channels": channels, "region": region, "fuse": fuse, "preprocess": preprocess}
    asked["cache"] = not no_cache
    explainer = _explainer(model, method, layer or ["auto"], asked, pixels)
    drawn = {
        "colormap": colormap,
        "opacity": opacity,
        "side_by_side": side_by_side,
        "caption": caption,
    }
    targets = list(dict.fromkeys(target or ["top1"]))
    job = Job(explainer, found, targets, out, drawn, skip_existing, force)
    _run(job, left_out, quiet=quiet, json=json)


def _explainer(
    model: Path, method: str, layers: list[str], asked: dict[str, Any], pixels: dict[str, Any]
) -> Explainer:
    from onnxcam.explain.explainer import Explainer

    explainer = Explainer(model, method, layers, **asked)
    explainer.change_preprocessing(**pixels)
    return explainer


def _run(job: Job, left_out: list[str], *, quiet: bool, json: bool) -> None:
    from onnxcam.cli.progress import ProgressReporter
    from onnxcam.image.colormap import COLORMAPS

    COLORMAPS[job.drawn["colormap"]]  # before an hour of work, not after
    _make(job.out)
    with ProgressReporter(len(job.pictures) * job.passes, quiet=quiet, json=json) as watch:
        for notice in (*left_out, *job.explainer.notices, job.explainer.preprocessing_notice):
            if notice:
                watch.note(f"note: {notice}")
        job.run(watch)
    watch.note(_summary(job))
    for path, why in job.failures.items():
        say(why if why.startswith(str(path)) else f"{path}: {why}", err=True)
    if job.failures:
        raise Exit(1)


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise OutputError(
            f"{out}: cannot be made a folder ({fault.strerror}); choose another --out"
        ) from fault


def _summary(job: Job) -> str:
    count, device = job.written, job.explainer.probe.batches.session.device
    said = f"{count} map{'s' * (count != 1)} written to {job.out}, run on {device}"
    if job.skipped:
        said += f", {job.skipped} there already"
    if job.failures:
        said += f"; {len(job.failures)} of {len(job.pictures)} pictures failed:"
    return said
