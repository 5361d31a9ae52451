"""ScatterElements, ScatterND and Scatter: cells of x are overwritten, or added to, by updates at indices."""

from __future__ import annotations

from typing import Any

from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph.slicing import full_like
from onnxcam.graph.tracing import Value

rules = Rules()


def scatter_vjp_data(
    g: Value, x: Value, indices: Value, updates: Value, reduction: str | None, **attributes: Any
) -> Value:
    """g, with zeros at the indices unless the updates are added."""
    _check_reduction(x, reduction)
    if reduction == "add":
        return g
    operator = "ScatterElements" if "axis" in attributes else "ScatterND"
    return g.build.op(operator, g, indices, full_like(updates, 0.0), **attributes)


def scatter_vjp_updates(
    g: Value, x: Value, indices: Value, reduction: str | None, **attributes: Any
) -> Value:
    """g at the indices. Several updates at the same index all get its cotangent, as in torch."""
    _check_reduction(x, reduction)
    operator = "GatherElements" if "axis" in attributes else "GatherND"
    return g.build.op(operator, g, indices, **attributes)


def _check_reduction(x: Value, reduction: str | None) -> None:
    """ModelError for a reduction without a rule."""
    if reduction not in (None, "none", "add"):
        raise ModelError(
            f"the scatter that reads {x.name!r} has reduction {reduction!r}, which has no gradient rule; "
            "export it with reduction none or add"
        )


# ScatterElements-18 (since 11), ScatterND-18 (since 11); Scatter-9 is the former name of ScatterElements
rules.vjp(
    "ScatterElements",
    lambda g, y, x, i, u, *, axis, reduction: scatter_vjp_data(g, x, i, u, reduction, axis=axis),
    None,
    lambda g, y, x, i, u, *, axis, reduction: scatter_vjp_updates(g, x, i, reduction, axis=axis),
)
rules.vjp(
    "ScatterND",
    lambda g, y, x, i, u, *, reduction: scatter_vjp_data(g, x, i, u, reduction),
    None,
    lambda g, y, x, i, u, *, reduction: scatter_vjp_updates(g, x, i, reduction),
)
rules.vjp(
    "Scatter",
    lambda g, y, x, i, u, *, axis: scatter_vjp_data(g, x, i, u, None, axis=axis),
    None,
    lambda g, y, x, i, u, *, axis: scatter_vjp_updates(g, x, i, None, axis=axis),
)
