"""Registries of what users choose by name: methods, preprocessing presets, color maps, rule tables."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from onnxcam.errors import UnknownNameError, unknown

Value = TypeVar("Value")


class Registry(Mapping[str, Value], Generic[Value]):
    """A mapping from names to values in the order in which they were added. It refuses duplicates, and for an
    unknown name it suggests close ones. Names that `derive` makes something of are known, too, but not listed;
    it returns None for others, and may raise UnknownNameError with a reason.
    """

    def __init__(self, kind: str, derive: Callable[[str], Value | None] | None = None) -> None:
        self.kind = kind
        self._values: dict[str, Value] = {}
        self.derive = derive
        self._derived: dict[str, Value] = {}

    def add(self, name: str, value: Value) -> Value:
        """Add a value and return it; ValueError if the name is taken."""
        if name in self._values:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._values[name] = value
        return value

    def __getitem__(self, name: str) -> Value:
        if name in self._values:
            return self._values[name]
        if name not in self._derived and self.derive is not None:
            value = self.derive(name)
            if value is not None:
                self._derived[name] = value
        if name not in self._derived:
            raise unknown(self.kind, name, self._values, f"known: {', '.join(self._values)}")
        return self._derived[name]

    def __contains__(self, name: object) -> bool:
        if name in self._values:
            return True
        try:
            return isinstance(name, str) and self[name] is not None
        except UnknownNameError:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def import_modules(package: str, folders: Iterable[str]) -> None:
    """Import all modules of a package but `_*.py`, so that they add what they have to their tables."""
    for module in pkgutil.iter_modules(folders):
        if not (module.ispkg or module.name.startswith("_")):
            importlib.import_module(f"{package}.{module.name}")
