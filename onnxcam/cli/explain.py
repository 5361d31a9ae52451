"""`onnxcam explain`: draw where a model looked, for each image and target."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer import Context, Exit

from onnxcam.cli.drawing_options import drawing_options
from onnxcam.cli.errors import UsageError
from onnxcam.cli.explainer_options import explainer_options
from onnxcam.cli.noise_options import noise_options
from onnxcam.cli.options import (
    Channels,
    Force,
    Fuse,
    Images,
    JsonLines,
    LayerNames,
    MaxTargets,
    Method,
    MinScore,
    OptionalModelFile,
    Out,
    Quiet,
    Recursive,
    RegionOption,
    Result,
    Settings,
    SkipExisting,
    Targets,
    TopChannels,
)
from onnxcam.cli.output import list_failures, make_folder
from onnxcam.defaults import DEFAULT_METHOD, LEAST, MOST

if TYPE_CHECKING:
    from onnxcam.cli.batch_job import Job
    from onnxcam.cli.repeat import Choices
    from onnxcam.explain.explainer import Explainer
    from onnxcam.explain.stored_result import StoredResult

EPILOG = """\b
For each image, all or none of these files are written:
  NAME.METHOD.png   the heat map over the image
  NAME.METHOD.npz   the raw map, and the map at the size of the layer, for NumPy
  NAME.METHOD.json  everything needed to repeat the result, and digests of the other two files
  NAME.METHOD.channels.png  with --top-channels: the feature maps that weigh most, each over the image
With several targets, their names are NAME.TARGET.METHOD.
Results of earlier runs are replaced. A file with one of these names but no matching .json was not written
by onnxcam and is not touched unless you pass --force.

\b
The score of a class is printed with its probability, "12.3 (p = 0.874)", if the model ends in a Softmax or
Sigmoid of the logits.

\b
With --json, each line has the keys image, target, index, score, probability and box (null without one), layers,
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
  onnxcam explain model.onnx cat.jpg --top-channels 12
  onnxcam explain model.onnx cat.jpg --preprocess tf --size 192,192 --fit squash
  onnxcam explain detector.onnx cat.jpg --input orig_target_sizes=640,480
  onnxcam explain detector.onnx street.jpg -t all --min-score 0.5
  onnxcam explain segmenter.onnx street.jpg -t road -t car@pixel:320,200
  onnxcam explain model.onnx cat.jpg --json | jq .target
  onnxcam explain --from maps/cat.grad-cam.json -o again
"""


@noise_options
@drawing_options
@explainer_options
def explain(
    context: Context,
    model: OptionalModelFile = None,
    images: Images = None,
    result: Result = None,
    method: Method = DEFAULT_METHOD,
    layer: LayerNames = None,
    target: Targets = None,
    min_score: MinScore = LEAST,
    max_targets: MaxTargets = MOST,
    *,
    noise_settings: dict[str, Any],
    settings: Settings = None,
    channels: Channels = None,
    region: RegionOption = None,
    top_channels: TopChannels = 0,
    fuse: Fuse = "max",
    arguments: dict[str, Any],
    out: Out = Path("onnxcam-out"),
    recursive: Recursive = False,
    skip_existing: SkipExisting = False,
    force: Force = False,
    drawing: dict[str, Any],
    json: JsonLines = False,
    quiet: Quiet = False,
) -> None:
    """Draw where MODEL looked, for each image and target."""
    from onnxcam.cli import parsing
    from onnxcam.cli.batch_job import Job
    from onnxcam.cli.image_files import collect_images
    from onnxcam.cli.repeat import Choices, explicit_options, notices_of_changes, repeat

    explicit = explicit_options(context)
    stored, notices = _read_result(context, result, explicit)
    method = stored.method if stored and "method" not in explicit else method
    method_settings = parsing.method_settings(method, settings or [], noise_settings)
    if (kind := method_settings.pop("score", None)) is not None:
        arguments["score"] = parsing.score_kind(arguments["score"], kind)
        explicit.add("score")
    arguments |= {
        "layer": layer or ["auto"],
        "min_score": min_score,
        "max_targets": max_targets,
        "channels": channels,
        "region": region,
        "top_channels": top_channels,
        "fuse": fuse,
    }
    targets = list(dict.fromkeys(target or ["top1"]))
    choices = Choices(model, images or [], method, targets, method_settings, arguments, drawing)
    if stored:
        choices = repeat(stored, choices, explicit)
    paths, skipped_files = collect_images(choices.images, recursive=recursive, out=out)
    explainer = _make_explainer(choices)
    if stored:
        notices += notices_of_changes(stored, explainer, paths, explicit)
    job = Job(explainer, paths, choices.targets, out, choices.drawing, skip_existing, force)
    _run_job(job, [*skipped_files, *notices], quiet=quiet, json=json)


def _read_result(
    context: Context, path: Path | None, explicit: Collection[str]
) -> tuple[StoredResult | None, list[str]]:
    """The result to repeat, and notices about it. UsageError if there is none, and no model or image either."""
    if path is not None:
        from onnxcam.explain.stored_result import read_result

        return read_result(path)
    for parameter, name in (("model", "MODEL"), ("images", "IMAGE...")):
        if parameter not in explicit:
            raise UsageError(f"Missing argument '{name}'.", context)
    return None, []


def _make_explainer(choices: Choices) -> Explainer:
    from onnxcam.cli.scanned_subset import read_subsets, require_scanned_model
    from onnxcam.explain.explainer import Explainer

    arguments, subsets = read_subsets(choices.arguments)
    if choices.model is not None:
        require_scanned_model(subsets, choices.model)
    explainer = Explainer(choices.model or "", choices.method, **arguments, **choices.settings)
    for subset in subsets:
        subset.require_fit(explainer.plan)
    return explainer


def _run_job(job: Job, notices: list[str], *, quiet: bool, json: bool) -> None:
    from onnxcam.cli.progress import ProgressReporter
    from onnxcam.image.colormap import choose_colormap
    from onnxcam.image.read_array import is_array_file

    preprocessing_notice = job.explainer.preprocessing_notice
    # an unknown or unsuitable one fails before the work, not after it
    choose_colormap(job.drawing["colormap"], signed=job.explainer.method.signed)
    make_folder(job.out)
    with ProgressReporter(len(job.images) * job.passes, quiet=quiet, json=json) as reporter:
        about_images = [] if all(map(is_array_file, job.images)) else [preprocessing_notice]
        for notice in (*notices, *job.explainer.notices, *about_images):
            if notice:
                reporter.note(f"note: {notice}")
        job.run(reporter)
    reporter.note(_summary(job))
    list_failures(job.failures.items())
    if job.failures:
        raise Exit(1)


def _summary(job: Job) -> str:
    count, device = job.written, job.explainer.device
    summary = f"{count} map{'' if count == 1 else 's'} written to {job.out}, run on {device}"
    if job.skipped:
        summary += f", {job.skipped} already existed"
    if job.failures:
        summary += f"; {len(job.failures)} of {len(job.images)} images failed:"
    return summary
