"""The command line: one file per command. Slow imports are left to the command that needs them."""

from onnxcam.cli.process import main

__all__ = ["main"]
