"""How unusual a set of p-values is: scan statistics phi(hits, total, alpha) (Speakman et al. 2018).

`total` p-values were drawn, and `hits` of them are at most `alpha`; by chance, total * alpha would be. A
statistic is 0 where there are no more hits than that. It grows with the hits, and for a fixed alpha it is
largest at an end of each line between two sets: this is why the best set is a prefix (see `search.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.registry import Registry

Statistic: TypeAlias = Callable[[Any, Any, Any], Floats]
STATISTICS: Registry[Statistic] = Registry("statistic")
DEFAULT_STATISTIC = "berk-jones"


def berk_jones(hits: Any, total: Any, alpha: Any) -> Floats:
    """total KL(hits / total || alpha): the log-likelihood ratio of the share of hits."""
    hits, total, alpha = (np.asarray(numbers, np.float64) for numbers in (hits, total, alpha))
    misses = total - hits
    divergence = _x_log_ratio(hits, total * alpha) + _x_log_ratio(misses, total * (1 - alpha))
    return np.where(hits > total * alpha, divergence, 0.0)


def higher_criticism(hits: Any, total: Any, alpha: Any) -> Floats:
    """(hits - total alpha) / sqrt(total alpha (1 - alpha)): the excess in standard deviations."""
    hits, total, alpha = (np.asarray(numbers, np.float64) for numbers in (hits, total, alpha))
    deviation = np.sqrt(np.maximum(total * alpha * (1 - alpha), np.finfo(np.float64).tiny))
    return np.where(hits > total * alpha, (hits - total * alpha) / deviation, 0.0)


def _x_log_ratio(x: Floats, y: Floats) -> Floats:
    """x log(x / y), 0 where x is 0."""
    ratio = np.where(x > 0, x, 1.0) / np.where((x > 0) & (y > 0), y, 1.0)
    return np.asarray(x * np.log(ratio))


STATISTICS.add(DEFAULT_STATISTIC, berk_jones)
STATISTICS.add("higher-criticism", higher_criticism)
