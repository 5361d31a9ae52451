"""The settings of a scan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from onnxcam.errors import SettingError
from onnxcam.scanning.background import TAILS
from onnxcam.scanning.search import RESTARTS
from onnxcam.scanning.statistics import DEFAULT_STATISTIC, STATISTICS

DEFAULT_ALPHA = 0.1


@dataclass(frozen=True)
class ScanSettings:
    """How images are scanned; see `Scanner`. UnknownNameError or SettingError if that is impossible."""

    alpha_max: float = DEFAULT_ALPHA
    statistic: str = DEFAULT_STATISTIC
    tail: str = "right"
    same_class: bool = False
    restarts: int = RESTARTS
    seed: int = 0
    together: bool = False

    def __post_init__(self) -> None:
        STATISTICS[self.statistic]
        if self.tail not in TAILS:
            raise SettingError(f"tail {self.tail!r}: expected {', '.join(TAILS)}")
        if not 0 < self.alpha_max < 1:
            raise SettingError(f"alpha_max {self.alpha_max}: expected a number between 0 and 1")
        for name in ("restarts", "seed"):
            if (number := getattr(self, name)) < 0:
                raise SettingError(f"{name} {number}: expected 0 or more")

    @property
    def needed(self) -> int:
        """The number of background images of which a p-value can be as small as alpha_max."""
        smallest = 2 if self.tail == "both" else 1  # rank
        return max(math.ceil(smallest / self.alpha_max * (1 - 1e-12)), smallest + 1)

    def require_enough(self, count: int) -> None:
        """SettingError if no p-value among this many background images can be as small as alpha_max."""
        if count >= self.needed:
            return
        kind = " of the most frequent class" if self.same_class else ""
        subject = f"background image{kind} is" if count == 1 else f"background images{kind} are"
        raise SettingError(
            f"{count} {subject} too few for a p-value of alpha_max = {self.alpha_max:g}; pass at least "
            f"{self.needed}, or a larger alpha_max"
        )

    def to_json(self) -> dict[str, Any]:
        """As values of JSON."""
        return dict(vars(self))
