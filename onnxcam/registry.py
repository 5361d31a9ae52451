"""Registries of what users choose by name: methods, preprocessing presets, color maps, rule tables."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from onnxcam.errors import unknown

Value = TypeVar("Value")


class Registry(Mapping[str, Value], Generic[Value]):
    """A mapping from names to values in the order in which they were added. It refuses duplicates, and for an
    unknown name it suggests close ones.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._values: dict[str, Value] = {}

    def add(self, name: str, value: Value) -> Value:
        """Add a value and return it; ValueError if the name is taken."""
        if name in self._values:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._values[name] = value
        return value

    def __getitem__(self, name: str) -> Value:
        if name not in self._values:
            raise unknown(self.kind, name, self._values, f"known: {', '.join(self._values)}")
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def import_modules(package: str, folders: Iterable[str]) -> None:
    """Import all modules of a package but `_*.py`, so that they add what they have to their tables."""
    for module in pkgutil.iter_modules(folders):
        if not (module.ispkg or module.name.startswith("_")):
            importlib.import_module(f"{package}.{module.name}")
