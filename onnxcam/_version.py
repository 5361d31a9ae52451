"""The version of the package, alone so that every part can ask for it."""

__version__ = "0.1.0"
