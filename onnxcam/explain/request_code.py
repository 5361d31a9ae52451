"""Whether the key of a cached plan covers the code that a request names: it holds the sources of this package,
but not those of quantities, rules, places and targets that others register.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from onnxcam.methods.place import PLACES
from onnxcam.methods.quantities import QUANTITIES
from onnxcam.specs import PlanRequest
from onnxcam.targets import TARGETS

PACKAGE = __name__.partition(".")[0]
TABLES = f"{PACKAGE}.autodiff.tables"


def is_bundled(request: PlanRequest) -> bool:
    """Whether all functions that a plan for this request is written by are those of this package."""
    return all(map(_is_ours, _functions(request)))


def _functions(request: PlanRequest) -> Iterator[Callable[..., Any]]:
    yield from (QUANTITIES[name].expression for name in request.quantities)
    if request.at in PLACES:
        yield PLACES[request.at]
    if request.target:
        yield TARGETS[request.target[0]].expression
    if TABLES in sys.modules:  # else nobody has changed a table, and a cached model needs none
        table = sys.modules[TABLES].RULE_TABLES[request.rules]
        yield from filter(None, [table.start])
        for rule in table.values():
            yield from filter(None, rule.functions)


def _is_ours(function: Callable[..., Any]) -> bool:
    """Whether a function, and those that it wraps, are defined in this package."""
    pending, seen = [function], set[int]()
    while pending:
        inner = pending.pop()
        module = str(getattr(inner, "__globals__", {}).get("__name__", ""))
        if module.partition(".")[0] != PACKAGE:
            return False
        seen.add(id(inner))
        cells = [cell.cell_contents for cell in inner.__closure__ or ()]
        pending += [cell for cell in cells if hasattr(cell, "__globals__") and id(cell) not in seen]
    return True
