"""The command line. One file a command; what is slow to import is imported by the command that needs it."""

from onnxcam.cli.process import main

__all__ = ["main"]
