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
  onnxcam demo --embed
"""


def demo(
    out: Annotated[
        Path, Option("--out", "-o", metavar="DIR", help="Folder to write the sheet to.")
    ] = Path(),
    embed: Annotated[
        bool,
        Option(
            "--embed",
            help="Show a model with its explanation inside instead; the file is written, too, and run with "
            "ONNX Runtime alone.",
        ),
    ] = False,
) -> None:
    """Draw one sheet that shows what onnxcam does.

    onnxcam-demo.png shows four methods side by side, maps of a chosen layer, of chosen feature maps, and of
    chosen cells, and one map for each detection of a detector. The models and the images are bundled with
    onnxcam.
    """
    if embed:
        _show_embedded(out)
        return
    from onnxcam.bundled import bundled_detector, bundled_model, detector_image, sample_images
    from onnxcam.demo import make_demo

    model, detector, scene = bundled_model(), bundled_detector(), detector_image()
    sheet = make_demo(model, sample_images(), detector, scene)
    path = sheet.save(out / "onnxcam-demo.png")
    for row in sheet.rows:
        say(f"{row.title}: {row.meaning}")
    say("", f"{path} shows all of these maps. To explain the images with options of your own:")
    say(f"  onnxcam explain {model} {sheet.image}", f"  onnxcam explain {detector} {scene} -t all")


def _show_embedded(out: Path) -> None:
    """Write the file with its explanation inside, run it, and draw what it returns."""
    from shutil import copyfile

    from onnxcam.atomic_write import atomic_write
    from onnxcam.bundled import bundled_explained_model, bundled_model, sample_images
    from onnxcam.demo import make_embedded_demo

    source = bundled_explained_model()
    file = out / source.name
    if not (file.exists() and file.samefile(source)):
        with atomic_write(file) as unfinished:
            copyfile(source, unfinished)
    sheet = make_embedded_demo(file, bundled_model(), sample_images())
    path = sheet.save(out / "onnxcam-embedded.png")
    for row in sheet.rows:
        say(f"{row.title}: {row.meaning}")
    say(
        "",
        f"{path} shows these maps, and {file} is the model. What is in it, and how to make such a file:",
    )
    say(f"  onnxcam inspect {file}", f"  onnxcam embed {bundled_model()} -o explained.onnx")
