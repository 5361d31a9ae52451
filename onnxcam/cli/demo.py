"""`onnxcam demo`: draw one sheet that shows what onnxcam does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from onnxcam.cli.output import say

EPILOG = """\b
Examples:
  onnxcam demo
  onnxcam demo -o images
"""


def demo(
    out: Annotated[
        Path, Option("--out", "-o", metavar="DIR", help="Folder to write onnxcam-demo.png to.")
    ] = Path(),
) -> None:
    """Draw one sheet that shows what onnxcam does.

    It shows four methods side by side, and maps of a chosen layer, of chosen feature maps, and of chosen
    cells. The model and the images are bundled with onnxcam.
    """
    from onnxcam.bundled import bundled_model, sample_images
    from onnxcam.demo import make_demo

    model = bundled_model()
    sheet = make_demo(model, sample_images())
    path = sheet.save(out / "onnxcam-demo.png")
    for row in sheet.rows:
        say(f"{row.title}: {row.meaning}")
    say("", f"{path} shows all of these maps. To explain the image with options of your own:")
    say(f"  onnxcam explain {model} {sheet.image}")
