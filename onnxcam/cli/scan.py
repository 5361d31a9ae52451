"""`onnxcam scan`: how unusual images are, and which feature maps and cells are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

from typer import Exit, Option

from onnxcam.cli.drawing_options import drawing_options
from onnxcam.cli.explainer_options import explainer_options_without
from onnxcam.cli.layer_of_images import LayerName, ManyImages
from onnxcam.cli.options import (
    Force,
    JsonLines,
    ModelFile,
    Out,
    Quiet,
    Recursive,
)

EPILOG = """\b
For each image, all or none of these files are written:
  NAME.scan.png   where the activations are unusual, over the image; the outline is that of the most unusual
                  block of feature maps and cells
  NAME.scan.npz   the p-values of all activations, and what is unusual
  NAME.scan.json  the scores, the feature maps and cells, the settings, and digests of the other two files
With --together, also together.scan.png, .npz and .json. Results of earlier runs are replaced, and without
--together, those of an earlier group are removed.

\b
The p-value of an image says how many of the background images, each compared with the others, are at least as
unusual. The smallest possible one is 1 / (number of background images + 1). With --together, the images are
compared with groups of as many background images: that needs 19 of these for each image.

\b
With --json, each line has the keys image, score, p_value, alpha, nodes, nodes_of_layer, channels, cells, layer,
overlay, map, manifest and error. For an image that failed, it has only image and error.

\b
Exit codes: 0: success; 1: some images failed (they are listed); 2: the model or a setting is invalid.

\b
Examples:
  onnxcam scan model.onnx new/ --background usual/
  onnxcam scan model.onnx new/ --background usual/ -l 40 --alpha-max 0.02 --tail both --together
  onnxcam explain model.onnx cat.jpg -m grad-cam --channels @onnxcam-scan/cat.scan.json
"""

BackgroundImages: TypeAlias = Annotated[
    list[Path],
    Option(
        "--background",
        metavar="DIR",
        help="A folder of images that are usual, or one such image; repeat it for several. Some hundred "
        "images are enough.",
        show_default=False,
    ),
]
AlphaMax: TypeAlias = Annotated[
    float,
    Option(
        "--alpha-max",
        metavar="P",
        help="The largest p-value of an activation that counts as unusual.",
    ),
]
StatisticName: TypeAlias = Annotated[
    str,
    Option(
        "--statistic",
        metavar="NAME",
        help="berk-jones (many somewhat unusual activations), or higher-criticism (a few very unusual ones).",
    ),
]
TailName: TypeAlias = Annotated[
    str,
    Option(
        "--tail",
        metavar="right|left|both",
        help="Whether large activations are unusual, small ones, or both.",
    ),
]
SameClass: TypeAlias = Annotated[
    bool,
    Option(
        "--same-class",
        help="Compare an image only with background images that the model gives the same class.",
    ),
]
Together: TypeAlias = Annotated[
    bool,
    Option("--together", help="Also search the images and activations that are unusual in common."),
]
SearchSeed: TypeAlias = Annotated[
    int,
    Option("--seed", metavar="N", help="Seed of the restarts of the search.", min=0),
]


@drawing_options
@explainer_options_without("score")
def scan(
    model: ModelFile,
    images: ManyImages,
    background: BackgroundImages,
    layer: LayerName = "auto",
    alpha_max: AlphaMax = 0.1,
    statistic: StatisticName = "berk-jones",
    tail: TailName = "right",
    same_class: SameClass = False,
    together: Together = False,
    seed: SearchSeed = 0,
    *,
    arguments: dict[str, Any],
    out: Out = Path("onnxcam-scan"),
    recursive: Recursive = False,
    force: Force = False,
    drawing: dict[str, Any],
    json: JsonLines = False,
    quiet: Quiet = False,
) -> None:
    """Find images that are unusual for MODEL, and where.

    What is unusual are feature maps and cells of a layer.
    """
    from onnxcam.cli.image_files import collect_images, require_files
    from onnxcam.cli.output import list_failures
    from onnxcam.cli.progress import ProgressReporter
    from onnxcam.cli.scan_job import ScanJob
    from onnxcam.scanning.settings import ScanSettings

    settings = ScanSettings(alpha_max, statistic, tail, same_class, seed=seed, together=together)
    require_files(background)
    usual, about_background = collect_images(background, recursive=recursive, out=out)
    settings.require_enough(len(usual))
    paths, about_images = collect_images(images, recursive=recursive, out=out)
    total = len(usual) + len(paths)
    with ProgressReporter(total, quiet=quiet, json=json, action="scanning") as reporter:
        job = ScanJob(paths, out, force, drawing, reporter)
        job.prepare(together=together)
        scanner = job.open(model, usual, layer, settings, arguments)
        for notice in (*about_background, *about_images, *scanner.notices):
            job.note(notice)
        job.run(scanner, together=together)
    reporter.note(job.summary(scanner))
    list_failures(job.failures.items())
    if job.failures:
        raise Exit(1)
