"""`onnxcam concepts`: the parts of which a layer's activations over many images are made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from typer import Exit, Option

from onnxcam.cli.explainer_options import explainer_options
from onnxcam.cli.layer_of_images import LayerName, ManyImages
from onnxcam.cli.options import Force, JsonLines, ModelFile, Out, Quiet, Recursive
from onnxcam.cli.output import make_folder, say

if TYPE_CHECKING:
    from onnxcam.cli.progress import ProgressReporter
    from onnxcam.concept_maps.concepts import Concepts
    from onnxcam.concept_maps.contributions import Contributions
    from onnxcam.concept_maps.source import ConceptSource
    from onnxcam.concept_maps.surrogate import Surrogate
    from onnxcam.errors import OnnxcamError
    from onnxcam.targets.target import Target

EPILOG = """\b
In the output folder, all or none of these files are written:
  concepts.png   a row for each concept: the images that show it best, with its map over them
  concepts.npz   W (cells, concepts), H (concepts, channels), the grids of the images, and the class scores
  concepts.json  the concepts, the settings, and digests of the other two files
With --contributions, also NAME.contributions.png and its .json for each such image; with --surrogate,
surrogate.png and surrogate.json. Such charts of earlier runs are removed if they are of other concepts.

\b
The class scores of a concept tell how the score of each class would change if the concept were stronger on
the images that show it best: which classes it speaks for, and against.

\b
With --json, each line has the keys number, share, for, against and best of a concept (with -t also score), or
image, target, score and contributions of an image, or surrogate, target, r2, r2_copies, r2_fitted, images and
held_out.

\b
Exit codes: 0: success; 1: some images failed (they are listed); 2: the model or a setting is invalid.

\b
Examples:
  onnxcam concepts model.onnx photos/
  onnxcam concepts model.onnx photos/ -k 12 -l 40 --labels imagenet.txt -o parts
  onnxcam concepts model.onnx photos/ -t cat-dog
  onnxcam concepts model.onnx photos/ --contributions cat.jpg -t cat
  onnxcam concepts model.onnx photos/ --surrogate gam -t cat
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
        "images) over the concepts, with a curve for each. For superpixels of one image, see explain -m lime.",
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
    from onnxcam.cli.image_files import collect_images, result_names
    from onnxcam.cli.progress import ProgressReporter
    from onnxcam.concept_maps.contributions import read_with_gradient
    from onnxcam.concept_maps.find import find_concepts
    from onnxcam.concept_maps.source import ConceptSource

    explained_paths = list(dict.fromkeys(contributions or []))
    names = result_names(explained_paths)
    # what cannot be written or explained fails before the work, not after it
    _require_writable(out, names, surrogate, overwrite=force)
    paths, skipped_files = collect_images(images, recursive=recursive, out=out)
    source = ConceptSource(model, layer, arguments)
    explained_rows = [read_with_gradient(source, path, target) for path in explained_paths]
    chosen = _read_class(source, target, surrogate, len(paths), is_explained=bool(explained_rows))
    make_folder(out)
    failures: list[tuple[Any, OnnxcamError]] = []
    total = len(paths) * (1 if surrogate is None else 2) + count * best
    with ProgressReporter(total, quiet=quiet, json=json) as reporter:
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
        result = replace(result, target=chosen)
        result.save(out, overwrite=force)
        _report_concepts(result, reporter)
        for row, name in zip(explained_rows, names, strict=True):
            explained = result.contributions_of(row)
            explained.save(out, name=name, overwrite=force)
            _report_contributions(explained, reporter)
        if surrogate is not None:
            fitted = result.surrogate(surrogate, target, seed=seed, progress=reporter.advance)
            fitted.save(out, overwrite=force)
            _report_surrogate(fitted, reporter)
    reporter.note(_summary(result, out))
    for path, error in failures:
        say(str(error) if str(error).startswith(str(path)) else f"{path}: {error}", err=True)
    if failures:
        raise Exit(1)


def _read_class(
    source: ConceptSource, spec: str, surrogate: str | None, images: int, *, is_explained: bool
) -> Target | None:
    """The class of which each concept has a score. SettingError and TargetError if there is none, unless an
    image `is_explained`: of one image, a target may be what concepts of many have no score for, such as a box.
    """
    from onnxcam.concept_maps.class_target import read_class
    from onnxcam.concept_maps.find import CLASS_SCORES
    from onnxcam.concept_maps.surrogate import PURPOSE, check_surrogate
    from onnxcam.errors import SettingError, TargetError
    from onnxcam.targets.classes import DEFAULT_TARGET

    if surrogate is not None:
        check_surrogate(surrogate, images)
        return read_class(source, spec, PURPOSE)
    if spec == DEFAULT_TARGET:
        return None
    try:
        return read_class(source, spec, CLASS_SCORES)
    except (SettingError, TargetError):
        if is_explained:
            return None
        raise


def _require_writable(
    out: Path, names: Iterable[str], surrogate: str | None, *, overwrite: bool
) -> None:
    """OutputError if a file that is to be written is somebody else's; see `require_writable`."""
    from onnxcam.concept_maps.concepts import concept_files
    from onnxcam.concept_maps.contributions import contribution_files
    from onnxcam.concept_maps.surrogate import surrogate_files
    from onnxcam.explain.result_files import require_writable

    charts = [contribution_files(out, name) for name in names]
    charts += [surrogate_files(out)] if surrogate else []
    for files in (concept_files(out), *charts):
        require_writable(files, overwrite=overwrite)


def _report_concepts(result: Concepts, reporter: ProgressReporter) -> None:
    for concept in range(len(result)):
        record = result.record(concept)
        columns = [f"concept {concept + 1}", f"{record['share']:.0%}"]
        if result.target is not None and "score" in record:
            columns.append(f"{result.target.name} {record['score']:+.2f}")
        for word in ("for", "against"):
            listed = ", ".join(f"{row['name']} {row['score']:+.2f}" for row in record[word])
            columns += [f"{word} {listed}"] if listed else []
        reporter.report(record, "  ".join(columns))


def _report_contributions(explained: Contributions, reporter: ProgressReporter) -> None:
    manifest = explained.manifest()
    target = manifest["target"]
    record = {
        "image": explained.image.name,
        "target": target["name"],
        "score": target["score"],
        "contributions": manifest["contributions"],
    }
    parts = sorted(explained.parts(), key=lambda part: -abs(part[1]))
    listed = ", ".join(f"{name} {value:+.2f}" for name, value in parts)
    reporter.report(
        record, f"{explained.image.name}  {target['name']} {explained.score:.2f} = {listed}"
    )


def _report_surrogate(fitted: Surrogate, reporter: ProgressReporter) -> None:
    record = {"surrogate": fitted.settings["kind"], "target": fitted.target.name, **fitted.record()}
    reporter.report(
        record,
        f"{record['surrogate']} of {fitted.target.name}: R2 {fitted.r2:.2f} on {record['held_out']} images "
        f"that were not fitted, {fitted.r2_copies:.2f} on their copies, {fitted.r2_fitted:.2f} on the others",
    )


def _summary(result: Concepts, out: Path) -> str:
    count, device = len(result.images), result.source.activations.device
    counted = f"{len(result)} concept{'' if len(result) == 1 else 's'}"
    return (
        f"{counted} of {count} image{'' if count == 1 else 's'} at {result.layer} written to {out}, relative "
        f"error {result.error:.2f}, run on {device}"
    )
