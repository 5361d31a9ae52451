"""One file for each runtime, which adds it to `RUNTIMES`. Its library is imported when it is run."""

from collections.abc import Sequence

from onnxcam.portability.foreign_runtime import RUNTIMES, ForeignRuntime
from onnxcam.registry import import_modules

import_modules(__name__, __path__)

ALL = "all"
__all__ = ["RUNTIMES", "choose_runtimes"]


def choose_runtimes(names: Sequence[str]) -> dict[str, ForeignRuntime]:
    """The runtimes with these names, or all of them. UnknownNameError for one that does not exist."""
    return {name: RUNTIMES[name] for name in ([*RUNTIMES] if ALL in names else names)}
