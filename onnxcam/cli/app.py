"""The command `onnxcam`, and what all its commands have in common."""

from __future__ import annotations

import sys
from typing import Annotated

from typer import Exit, Option, Typer

from onnxcam.cli.augment import augment
from onnxcam.cli.check import check
from onnxcam.cli.demo import demo
from onnxcam.cli.doctor import doctor
from onnxcam.cli.errors import ErrorReportingGroup
from onnxcam.cli.explain import explain
from onnxcam.cli.layers import layers
from onnxcam.cli.methods import methods
from onnxcam.cli.output import say

EPILOG = """\b
Begin with:
  onnxcam demo                        a picture of what this is, with a model that comes along
  onnxcam check model.onnx            can this model be explained?
  onnxcam explain model.onnx cat.jpg  where did it look?
"""

app = Typer(
    name="onnxcam",
    cls=ErrorReportingGroup,
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (explain, layers, methods, check, augment, demo, doctor):
    app.command(epilog=sys.modules[_command.__module__].EPILOG)(_command)


def _version(wanted: bool) -> None:
    if wanted:
        from onnxcam._version import __version__

        say(f"onnxcam {__version__}")
        raise Exit


@app.callback()
def onnxcam(
    version: Annotated[
        bool,
        Option("--version", callback=_version, is_eager=True, help="Say the version and stop."),
    ] = False,
) -> None:
    """Where did an exported model look? Heat maps for .onnx image models, by Smooth Grad-CAM++ and its
    family, without the framework that the model came from.
    """
