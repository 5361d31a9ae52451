"""`onnxcam concepts`: the parts of which a layer's activations over many images are made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from typer import Exit, Option

from onnxcam.cli.explainer_options import explainer_options
from onnxcam.cli.layer_of_images import LayerName, ManyImages
from onnxcam.cli.options import Force, JsonLines, ModelFile, Out, Quiet, Recursive
from onnxcam.cli.output import list_failures, make_folder

if TYPE_CHECKING:
    from onnxcam.cli.progress import ProgressReporter
    from onnxcam.concept_maps.concepts import Concepts
    from onnxcam.errors import OnnxcamError

EPILOG = """\b
In the output folder, all or none of these files are written:
  concepts.png   a row for each concept: the images that show it best, with its map over them
  concepts.npz   W (cells, concepts), H (concepts, channels), the grids of the images, and the class scores
  concepts.json  the concepts, the settings, and digests of the other two files
With --contributions, also NAME.contributions.png and its .json for each such image; with --surrogate,
surrogate.png and surrogate.json. Such charts of earlier runs are removed if they are of other concepts. With
--superpixels, NAME.superpixels.png and its .json.

\b
The class scores of a concept tell how the score of each class would change if the concept were stronger on
the images that show it best: which classes it speaks for, and against.

\b
With --json, each line has the keys number, share, for, against and best of a concept (with -t also score), or
image, target, score and contributions of an image, or image, target, score, r2, r2_linear, samples and effects
of its superpixels, or surrogate, target, r2, r2_copies, r2_fitted, images and held_out.

\b
Exit codes: 0: success; 1: some images failed (they are listed); 2: the model or a setting is invalid.

\b
Examples:
  onnxcam concepts model.onnx photos/
  onnxcam concepts model.onnx photos/ -k 12 -l 40 --labels imagenet.txt -o parts
  onnxcam concepts model.onnx photos/ -t cat-dog
  onnxcam concepts model.onnx photos/ --contributions cat.jpg -t cat
  onnxcam concepts model.onnx photos/ --surrogate gam -t cat
  onnxcam concepts model.onnx photos/ --superpixels cat.jpg -t cat
"""

Count: TypeAlias = Annotated[
    int, Option("--concepts", "-k", metavar="K", help="Number of concepts.", min=1)
]
Best: TypeAlias = Annotated[
    int, Option("--best", metavar="N", help="Number of images that show each concept.", min=1)
]
ContributionImages: TypeAlias = Annotated[
    list[Path] | None,
    Option(
        "--contributions",
        metavar="IMAGE",
        help="Also write the score of this image as a sum over the concepts; repeat it for several.",
        show_default=False,
    ),
]
OneTarget: TypeAlias = Annotated[
    str,
    Option(
        "--target",
        "-t",
        metavar="TARGET",
        help="A class or a contrast of classes, whose score is told of each concept (top1: the classes that "
        "it raises and lowers most), and what --contributions and --surrogate explain.",
    ),
]
SurrogateKind: TypeAlias = Annotated[
    str | None,
    Option(
        "--surrogate",
        metavar="gam",
        help="Also fit an additive model of the score of --target (of top1: the class that is first on most "
        "images) over the concepts, with a curve for each.",
        show_default=False,
    ),
]
SuperpixelImages: TypeAlias = Annotated[
    list[Path] | None,
    Option(
        "--superpixels",
        metavar="IMAGE",
        help="Also fit an additive model of the score of this image, with a curve for each of its superpixels: "
        "how much of it is shown; repeat it for several.",
        show_default=False,
    ),
]
StartSeed: TypeAlias = Annotated[
    int,
    Option(
        "--seed",
        metavar="N",
        help="Seed of the starts; the same seed gives the same concepts.",
        min=0,
    ),
]


@explainer_options
def concepts(
    model: ModelFile,
    images: ManyImages,
    layer: LayerName = "auto",
    count: Count = 8,
    best: Best = 5,
    contributions: ContributionImages = None,
    surrogate: SurrogateKind = None,
    superpixels: SuperpixelImages = None,
    target: OneTarget = "top1",
    seed: StartSeed = 0,
    *,
    arguments: dict[str, Any],
    out: Out = Path("onnxcam-concepts"),
    recursive: Recursive = False,
    force: Force = False,
    json: JsonLines = False,
    quiet: Quiet = False,
) -> None:
    """Find parts that a layer knows, over many images."""
    from onnxcam.cli.concept_charts import ConceptCharts
    from onnxcam.cli.image_files import collect_images
    from onnxcam.cli.progress import ProgressReporter
    from onnxcam.concept_maps.find import find_concepts
    from onnxcam.concept_maps.source import ConceptSource

    charts = ConceptCharts(contributions or [], superpixels or [], surrogate, target, out, force)
    charts.require_writable()  # what cannot be written or explained fails before the work, not after it
    paths, skipped_files = collect_images(images, recursive=recursive, out=out)
    source = ConceptSource(model, layer, arguments)
    charts.prepare(source, len(paths), seed)
    make_folder(out)
    failures: list[tuple[Any, OnnxcamError]] = []
    total = len(paths) * (1 if surrogate is None else 2) + count * best
    with ProgressReporter(total, quiet=quiet, json=json, action="finding concepts") as reporter:
        result = find_concepts(
            source,
            paths,
            count,
            best,
            seed,
            progress=reporter.advance,
            on_error=lambda path, error: failures.append((path, error)),
        )
        for notice in (*skipped_files, *result.notices):
            reporter.note(f"note: {notice}")
        result = replace(result, target=charts.class_target)
        result.save(out, overwrite=force)
        _report_concepts(result, reporter)
        charts.write(result, reporter, seed)
    reporter.note(_summary(result, out))
    list_failures(failures)
    if failures:
        raise Exit(1)


def _report_concepts(result: Concepts, reporter: ProgressReporter) -> None:
    from onnxcam.concept_maps.concepts import format_effect

    for concept in range(len(result)):
        record = result.record(concept)
        columns = [f"concept {concept + 1}", f"{record['share']:.0%}"]
        if result.target is not None and "score" in record:
            columns.append(f"{result.target.name} {record['score']:+.2f}")
        for word in ("for", "against"):
            listed = ", ".join(
                f"{row['name']} {format_effect(row['score'], 2)}" for row in record[word]
            )
            columns += [f"{word} {listed}"] if listed else []
        reporter.report(record, "  ".join(columns))


def _summary(result: Concepts, out: Path) -> str:
    count, device = len(result.images), result.source.activations.device
    counted = f"{len(result)} concept{'' if len(result) == 1 else 's'}"
    return (
        f"{counted} of {count} image{'' if count == 1 else 's'} at {result.layer} written to {out}, relative "
        f"error {result.error:.2f}, run on {device}"
    )
