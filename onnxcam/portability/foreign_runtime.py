"""A runtime as the table of runtimes describes it, and what a process of its own is told to do."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from onnxcam.arrays import Array
from onnxcam.registry import Registry

Arrays: TypeAlias = Mapping[str, Array]

RUNTIMES: Registry[ForeignRuntime] = Registry("runtime")


@dataclass(frozen=True)
class Task:
    """A file to run.

    Attributes:
        model: the .onnx file.
        feeds: its inputs, by name.
        outputs: the names of its outputs, in the order of the file.
        node_modules: the folder with npm's packages, if there is one.
    """

    model: Path
    feeds: Arrays
    outputs: tuple[str, ...]
    node_modules: Path | None = None


@dataclass(frozen=True)
class ForeignRuntime:
    """A runtime of .onnx files.

    Attributes:
        run: runs a file in a process of its own, and returns the outputs by name, and its version.
        install: what installs it.
        module: the Python module that it is found by; "" if `is_installed` says where.
        is_installed: whether it can be used, from the folder with npm's packages.
    """

    run: Callable[[Task], tuple[Arrays, str]]
    install: str
    module: str = ""
    is_installed: Callable[[Path | None], bool] | None = None

    def is_available(self, node_modules: Path | None) -> bool:
        """Whether it is installed; nothing is imported."""
        if self.is_installed is not None:
            return self.is_installed(node_modules)
        return importlib.util.find_spec(self.module) is not None
