"""The options of `onnxcam embed` that write a folder in which the file is deployed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, TypeAlias

from typer import Option

from onnxcam.cli.output import require_writable
from onnxcam.errors import SettingError

if TYPE_CHECKING:
    from onnxcam.embedding.formats.write import Deployment
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


PageImages: TypeAlias = Annotated[
    list[Path] | None,
    Option(
        "--sample",
        metavar="IMAGE",
        help="With --format web: an image that the page offers; repeat it for several.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Destination:
    """Where the explanation of a model goes: a file, or the folder of a format with the npm packages in
    `runtime` and the images that a page offers.
    """

    model: Path
    out: Path
    format_name: str | None
    runtime: Path | None
    images: tuple[Path, ...]
    force: bool

    def check(self) -> None:
        """Raise what can be known before the explanation is written: OutputError, SettingError, ImageError, or
        UnknownNameError.
        """
        if self.images and self.format_name != "web":
            raise SettingError("--sample is for --format web; leave it out, or add --format web")
        if self.format_name is None:
            require_writable(self.model, self.out, force=self.force)
            return
        from onnxcam.embedding.formats.write import FORMATS

        FORMATS[self.format_name].check(self._deployment())

    def save(self, embedded: EmbeddedModel) -> tuple[tuple[Path, ...], tuple[str, ...]]:
        """Write it. Returns the paths of the model, and what to do with them."""
        if self.format_name is None:
            return embedded.save(self.out), ()
        from onnxcam.embedding.formats.write import FORMATS

        with TemporaryDirectory() as folder:
            file = Path(folder) / "explained.onnx"
            embedded.save(file)
            written = FORMATS[self.format_name].write(file, self._deployment())
        return written.model, written.advice

    def _deployment(self) -> Deployment:
        from onnxcam.embedding.formats.write import Deployment

        return Deployment(self.out, self.model.stem, self.runtime, self.images, self.force)


def preset_for(preprocess: str | None, format_name: str | None) -> str | None:
    """How the file prepares pixels: as the user says, or automatically for a format that sends pixels; None if
    it does not.
    """
    if format_name is None or preprocess is not None:
        return preprocess
    from onnxcam.embedding.formats.write import FORMATS

    return "auto" if FORMATS[format_name].takes_pixels else None
