"""An input of a model whose values were given with it, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class BoundInput:
    """An input that was made a constant of the model: its name, dtype and shape there, the SHA-256 of its
    bytes, and its numbers in order if they are few and finite.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str
    values: tuple[float, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """What the manifest says about it; `values` are nested lists."""
        fields: dict[str, Any] = {
            "shape": list(self.shape),
            "dtype": self.dtype,
            "sha256": self.sha256,
        }
        if self.values is None:
            return fields
        kind: Any = bool if self.dtype == "bool" else int if "int" in self.dtype else float
        return {**fields, "values": np.array(self.values).astype(kind).reshape(self.shape).tolist()}
