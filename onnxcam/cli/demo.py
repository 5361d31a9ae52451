"""`onnxcam demo`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from onnxcam.cli.output import say

EPILOG = """\b
Examples:
  onnxcam demo
  onnxcam demo -o pictures
"""


def demo(
    out: Annotated[
        Path, Option("--out", "-o", metavar="DIR", help="The folder for onnxcam-demo.png.")
    ] = Path(),
) -> None:
    """Draw one picture of what onnxcam does.

    The model and the pictures come along. Shown are four methods side by side, and maps of a chosen
    layer, of chosen feature maps, and of chosen neurons.
    """
    from onnxcam.bundled import bundled_model, sample_pictures
    from onnxcam.demo import drawn

    model = bundled_model()
    found = drawn(model, sample_pictures())
    path = found.save(out / "onnxcam-demo.png")
    for row in found.rows:
        say(f"{row.title}: {row.meaning}")
    say("", f"{path} shows them. Next, the same of one of these pictures alone:")
    say(f"  onnxcam explain {model} {found.picture}")
