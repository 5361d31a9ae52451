"""`onnxcam compare`: draw the maps of several methods on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from typer import Argument, Exit, Option

from onnxcam.cli import interrupts
from onnxcam.cli.explainer_options import explainer_options_without
from onnxcam.cli.noise_options import noise_options
from onnxcam.cli.options import Force, JsonLines, Labels, ModelFile, Quiet
from onnxcam.cli.output import say

if TYPE_CHECKING:
    from onnxcam.explain.compare import Comparer
    from onnxcam.explain.compared_map import ComparedMap
    from onnxcam.explain.comparison import Comparison

EPILOG = """\b
Two files are written, both or neither: the sheet, and next to it a .json with the settings, the time and the
notices of every map. After an interrupt they hold the maps that are done.

\b
Under each map stand the number of inputs that the model was run on, the time that the method takes alone for
these runs and its formula (not to open the model), and what is special: an empty map, a completeness gap, the
beginning of a notice. What methods have in common is run once.

\b
With several layers or targets, each method has a row, and each layer and target a column; methods that have no
layer are drawn in the first column of each target.

\b
With --json, each line has the keys method, family, layer, target, index, score, probability, passes, seconds,
shared_seconds (not spent, because another method had run the same), is_empty, facts, notices and error; for a
method that failed, only method, family, layer, target and error.

\b
Exit codes: 0: success; 1: some of the methods named with --method failed; 2: the model or a setting is invalid,
or all methods failed.

\b
Examples:
  onnxcam compare model.onnx cat.jpg
  onnxcam compare model.onnx cat.jpg -m grad-cam,layer-cam,rise --set masks=500 -o grid.png
  onnxcam compare model.onnx cat.jpg -m all -n 8 --set steps=16 --set masks=500
  onnxcam compare model.onnx cat.jpg -m grad-cam -m layer-cam -l 40 -l 72
  onnxcam compare model.onnx cat.jpg -t top1 -t top2 --labels imagenet.txt
"""

ImageFile: TypeAlias = Annotated[Path, Argument(metavar="IMAGE", help="An image.")]
MethodNames: TypeAlias = Annotated[
    list[str] | None,
    Option(
        "--method",
        "-m",
        metavar="NAMES|all",
        help="Methods, separated by commas, or all that apply to the model; repeat it for more.  "
        "[default: a few that suit most models]",
        show_default=False,
    ),
]
LayerColumns: TypeAlias = Annotated[
    list[str] | None,
    Option(
        "--layer",
        "-l",
        metavar="NAME|NUMBER",
        help="A layer listed by `onnxcam layers`; repeat it to compare layers, too.  [default: auto]",
        show_default=False,
    ),
]
TargetColumns: TypeAlias = Annotated[
    list[str] | None,
    Option(
        "--target",
        "-t",
        metavar="TARGET",
        help="A target as in `onnxcam explain`; repeat it to compare targets, too.  [default: top1]",
        show_default=False,
    ),
]
SharedSettings: TypeAlias = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="NAME=VALUE",
        help="A setting of all methods that have it, or of one: METHOD.NAME=VALUE; repeat it for several.",
    ),
]
OutFile: TypeAlias = Annotated[
    Path, Option("--out", "-o", metavar="FILE", help="The sheet to write, a .png file.")
]


@noise_options
@explainer_options_without("labels")
def compare(
    model: ModelFile,
    image: ImageFile,
    method: MethodNames = None,
    layer: LayerColumns = None,
    target: TargetColumns = None,
    labels: Labels = None,
    *,
    noise_settings: dict[str, Any],
    settings: SharedSettings = None,
    arguments: dict[str, Any],
    out: OutFile = Path("onnxcam-compare.png"),
    force: Force = False,
    json: JsonLines = False,
    quiet: Quiet = False,
) -> None:
    """Draw the maps of several methods for IMAGE on one sheet."""
    from onnxcam.cli import parsing
    from onnxcam.explain.compare import Comparer, choose_methods
    from onnxcam.explain.comparison import comparison_files
    from onnxcam.explain.result_files import require_writable

    require_writable(comparison_files(out), overwrite=force)  # before the work, not after it
    named = [name for names in method or [] for name in names.split(",")]
    comparer = Comparer(
        model,
        choose_methods(named or None),
        layer or ["auto"],
        list(dict.fromkeys(target or ["top1"])),
        parsing.assigned_settings(settings or [], noise_settings),
        {"labels": labels or "auto", **arguments},
    )
    maps: list[ComparedMap] = []
    try:
        comparison = _run(comparer, image, maps, quiet=quiet, json=json)
    except KeyboardInterrupt:  # what is done is not lost
        if any(compared.error is None for compared in maps):
            comparer.collect(maps).save(out, overwrite=force)
            say(f"{len(maps)} of {comparer.count} maps on {out}", err=True)
        raise
    comparison.save(out, overwrite=force)
    if not quiet:
        say(_summary(comparison, out), err=True)
    is_all = not named or named == ["all"]
    if comparison.errors and not is_all:
        raise Exit(1)


def _run(
    comparer: Comparer, image: Path, maps: list[ComparedMap], *, quiet: bool, json: bool
) -> Comparison:
    """The comparison; `maps` gets those that are done, one by one."""
    from onnxcam.cli.progress import ProgressReporter
    from onnxcam.explain.comparison_notes import failure_lines

    with ProgressReporter(comparer.passes, quiet=quiet, json=json) as reporter:
        passes = 0

        def start(method: str, count: int) -> None:
            nonlocal passes
            reporter.start_image(method, passes, comparer.passes)
            passes += count

        for compared in comparer.run(image, reporter.advance, start):
            if interrupts.exit_code() is not None:  # an interrupt that a library swallowed
                raise KeyboardInterrupt
            maps.append(compared)
            if compared.error is None:
                reporter.report(_record(compared), _line(comparer, compared))
        comparison = comparer.collect(maps)
        for compared in comparison.maps:
            if compared.error is not None:
                reporter.report(_record(compared), _line(comparer, compared))
        for line in failure_lines(comparison.maps):
            reporter.note(f"no map: {line}")
        for notice in _common(comparison):
            reporter.note(f"note: {notice}")
    return comparison


def _common(comparison: Comparison) -> Sequence[str]:
    """The notices that are not about one method, in order."""
    from onnxcam.explain.comparison_notes import usual_of

    usual = usual_of(comparison.drawn).notices if comparison.drawn else ()
    notices = comparison.explanations[0].notices if comparison.drawn else ()
    return [notice for notice in notices if notice in usual]


def _record(compared: ComparedMap) -> dict[str, Any]:
    from onnxcam.methods import METHODS

    head = {
        "method": compared.method,
        "family": METHODS[compared.method].family,
        "layer": compared.layer,
        "target": compared.target,
    }
    if compared.explanation is None:
        return {**head, "error": compared.reason}
    manifest = compared.explanation.manifest()
    return {
        **head,
        "layers": manifest["layers"],
        "name": manifest["target"]["name"],
        "index": manifest["target"]["index"],
        "score": manifest["target"]["score"],
        "probability": manifest["target"].get("probability"),
        "passes": compared.passes,
        "seconds": compared.seconds,
        "shared_seconds": compared.shared_seconds,
        "is_empty": manifest["is_empty"],
        "facts": manifest.get("facts", {}),
        "notices": manifest["notices"],
        "error": None,
    }


def _line(comparer: Comparer, compared: ComparedMap) -> str:
    """What is printed of a map: the method, its column, its cost, and its notes."""
    from onnxcam.explain.comparison_notes import cost_text, remarks_of

    columns = [compared.method.ljust(max(map(len, comparer.methods)))]
    if len(comparer.targets) > 1:
        columns.append(compared.target)
    if len(comparer.layers) > 1:
        columns.append(compared.layer or "-")
    if compared.explanation is None:
        return "  ".join([*columns, "no map"])
    return "  ".join([*columns, cost_text(compared), *remarks_of(compared)])


def _summary(comparison: Comparison, out: Path) -> str:
    count, failed = len(comparison), len(comparison.errors)
    seconds = comparison.spent_seconds
    text = f"{count} map{'' if count == 1 else 's'} in {seconds:.1f} s on {out}"
    return text + (f"; {failed} method{'' if failed == 1 else 's'} without a map" if failed else "")
