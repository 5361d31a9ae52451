"""The command `onnxcam` and its subcommands."""

from __future__ import annotations

import sys
from typing import Annotated

from typer import Exit, Option, Typer

from onnxcam.cli.augment import augment
from onnxcam.cli.check import check
from onnxcam.cli.compare import compare
from onnxcam.cli.concepts import concepts
from onnxcam.cli.demo import demo
from onnxcam.cli.doctor import doctor
from onnxcam.cli.embed import embed
from onnxcam.cli.errors import ErrorReportingGroup
from onnxcam.cli.explain import explain
from onnxcam.cli.inspect import inspect
from onnxcam.cli.invert import invert
from onnxcam.cli.layers import layers
from onnxcam.cli.methods import methods
from onnxcam.cli.output import say
from onnxcam.cli.scan import scan
from onnxcam.cli.visualize import visualize

EPILOG = """\b
Start with:
  onnxcam demo                        see what onnxcam does, with a bundled model
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
for _command in (
    explain,
    compare,
    concepts,
    scan,
    visualize,
    invert,
    layers,
    methods,
    check,
    inspect,
    augment,
    embed,
    demo,
    doctor,
):
    app.command(epilog=sys.modules[_command.__module__].EPILOG)(_command)


def _print_version(requested: bool) -> None:
    if requested:
        from onnxcam._version import __version__

        say(f"onnxcam {__version__}")
        raise Exit


@app.callback()
def onnxcam(
    version: Annotated[
        bool,
        Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Where did an exported model look? Draws heat maps for .onnx image models with Smooth Grad-CAM++ and
    related methods. The framework that the model came from is not needed.
    """
