"""The tables of gradient rules. DEFAULT holds the rows of all files in this folder but `_*.py`."""

import importlib
import pkgutil
from collections.abc import Iterable

from onnxcam.autodiff.rule_table import Rules


def rule_modules(folders: Iterable[str]) -> list[str]:
    """The names of the modules in some folders that define `rules`; `_*.py` may hold what they share."""
    return [
        module.name for module in pkgutil.iter_modules(folders) if not module.name.startswith("_")
    ]


def _join() -> Rules:
    table = Rules()
    for family in FAMILIES:
        if twice := sorted(table.keys() & family.rules.keys()):
            raise ValueError(f"{family.__name__} has rules that another file has: {twice}")
        table = table | family.rules
    return table


FAMILIES = [importlib.import_module(f"{__name__}.{name}") for name in rule_modules(__path__)]
DEFAULT = _join()
