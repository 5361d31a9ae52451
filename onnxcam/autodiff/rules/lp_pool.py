"""LpPool and GlobalLpPool: p-norms of windows, or of all pixels."""

from __future__ import annotations

from onnxcam.autodiff.lowering.window_sums import channels_of_sums, window_sum_vjp
from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph import anp
from onnxcam.graph.slicing import broadcast_like
from onnxcam.graph.tracing import Value
from onnxcam.graph.window import Window

rules = Rules()


def scale_by_norm(g: Value, y: Value, p: int) -> Value:
    """g y^(1-p), and 0 where y is 0."""
    positive = y > 0
    return anp.where(positive, g * anp.where(positive, y, 1.0) ** (1.0 - p), 0.0)


def norm_slope(x: Value, p: int) -> Value:
    """x |x|^(p-2): the derivative of |x|^p / p."""
    if p <= 2:
        return anp.sign(x) if p == 1 else x
    return x * anp.abs(x) ** (p - 2.0)


def lp_pool_vjp(g: Value, y: Value, x: Value, *, window: Window, p: int) -> Value:
    """LpPool-22, y^p = sum |x|^p over each window: x |x|^(p-2) sum g y^(1-p) over the windows of x.

    Since opset 2.
    """
    channels = channels_of_sums(x, window, "LpPool")
    return window_sum_vjp(scale_by_norm(g, y, p), x, window, channels) * norm_slope(x, p)


def global_lp_pool_vjp(g: Value, y: Value, x: Value, *, p: int) -> Value:
    """GlobalLpPool-22, y^p = sum |x|^p over all pixels: x |x|^(p-2) g y^(1-p). Since opset 2."""
    return broadcast_like(scale_by_norm(g, y, p), x) * norm_slope(x, p)


rules.vjp("LpPool", lp_pool_vjp)
rules.vjp("GlobalLpPool", global_lp_pool_vjp)
