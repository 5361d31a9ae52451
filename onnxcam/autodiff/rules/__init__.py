"""The tables of gradient rules: DEFAULT holds every row of the files beside this one, but for `_*.py`."""

import importlib
import pkgutil

from onnxcam.autodiff.rule_table import Rules
from onnxcam.registry import Registry

FAMILIES = [
    importlib.import_module(f"{__name__}.{module.name}")
    for module in pkgutil.iter_modules(__path__)
    if not module.name.startswith("_")
]


def _joined() -> Rules:
    table = Rules()
    for family in FAMILIES:
        if table.keys() & family.rules.keys():
            raise ValueError(f"{family.__name__} has a rule that another family has")
        table = table | family.rules
    return table


DEFAULT = _joined()
RULE_TABLES: Registry[Rules] = Registry("rule table")
RULE_TABLES.add("default", DEFAULT)
