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

    It shows four methods side by side, maps of a chosen layer, of chosen feature maps, and of chosen cells,
    and one map for each detection of a detector. The models and the images are bundled with onnxcam.
    """
    from onnxcam.bundled import bundled_detector, bundled_model, detector_image, sample_images
    from onnxcam.demo import make_demo

    model, detector, scene = bundled_model(), bundled_detector(), detector_image()
    sheet = make_demo(model, sample_images(), detector, scene)
    path = sheet.save(out / "onnxcam-demo.png")
    for row in sheet.rows:
        say(f"{row.title}: {row.meaning}")
    say("", f"{path} shows all of these maps. To explain the images with options of your own:")
    say(f"  onnxcam explain {model} {sheet.image}", f"  onnxcam explain {detector} {scene} -t all")
