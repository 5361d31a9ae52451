"""One map of a comparison of methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onnxcam.errors import OnnxcamError
from onnxcam.explain.explanation import Explanation

COMMON = ("image", "model", "inputs", "labels", "preprocessing", "device", "versions")
"""What the manifests of all maps of a comparison have in common."""


@dataclass(frozen=True)
class ComparedMap:
    """The map of a method, or why there is none.

    Attributes:
        layer, target: as they were asked for; the layer is None for a method that has none to choose.
        passes: the number of inputs that were run for it, without the clean one.
        seconds: what the method takes alone, for the passes and the formula. The model was open by then.
        shared_seconds: the part of them that was not spent, because another method had run the same passes.
        explanation: of one image; None if the method failed.
        error: why it failed.
        reason: the same in one line, without the name of the model.
    """

    method: str
    layer: str | None
    target: str
    passes: int = 0
    seconds: float = 0.0
    shared_seconds: float = 0.0
    explanation: Explanation | None = None
    error: OnnxcamError | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """What the manifest of the comparison says about it."""
        head = {"method": self.method, "layer": self.layer, "target": self.target}
        if self.explanation is None:
            return {**head, "error": self.reason}
        manifest = self.explanation.manifest()
        own = {name: manifest[name] for name in manifest if name not in (*COMMON, "schema")}
        times = {"seconds": self.seconds, "shared_seconds": self.shared_seconds}
        return {**head, "passes": self.passes, **times, "result": own}
