"""The options of `onnxcam embed` that write a folder in which the file is deployed."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, TypeAlias

from typer import Option

from onnxcam.cli.output import require_writable

if TYPE_CHECKING:
    from onnxcam.embedding.write import EmbeddedModel

FormatName: TypeAlias = Annotated[
    str | None,
    Option(
        "--format",
        metavar="FORMAT",
        help="Write the folder --out instead of a file: web, a page that runs the model in the browser; "
        "triton, a model repository of Triton Inference Server.",
        show_default=False,
    ),
]
Runtime: TypeAlias = Annotated[
    Path | None,
    Option(
        "--runtime",
        metavar="NODE_MODULES",
        help="The folder node_modules with onnxruntime-web, for --format web, or onnxruntime-node, for --check "
        "node.",
        show_default=False,
    ),
]


def require_output(
    model: Path, out: Path, format_name: str | None, runtime: Path | None, *, force: bool
) -> None:
    """Check what can be before the explanation is written. OutputError, SettingError, UnknownNameError."""
    if format_name is None:
        require_writable(model, out, force=force)
        return
    from onnxcam.embedding.formats.write import FORMATS, Deployment

    FORMATS[format_name].check(Deployment(out, model.stem, runtime, force))


def preset_for(preprocess: str | None, format_name: str | None) -> str | None:
    """How the file prepares pixels: as the user says, or automatically for a format that sends pixels; None if
    it does not.
    """
    if format_name is None or preprocess is not None:
        return preprocess
    from onnxcam.embedding.formats.write import FORMATS

    return "auto" if FORMATS[format_name].takes_pixels else None


def save(
    embedded: EmbeddedModel,
    model: Path,
    out: Path,
    format_name: str | None,
    runtime: Path | None,
    *,
    force: bool,
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Write the file, or the folder of a format. Returns the paths of the model, and what to do with them."""
    if format_name is None:
        return embedded.save(out), ()
    from onnxcam.embedding.formats.write import FORMATS, Deployment

    with TemporaryDirectory() as folder:
        file = Path(folder) / "explained.onnx"
        embedded.save(file)
        written = FORMATS[format_name].write(file, Deployment(out, model.stem, runtime, force))
    return written.model, written.advice
