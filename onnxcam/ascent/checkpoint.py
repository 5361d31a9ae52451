"""The state of an unfinished descent in a file, from which a later call with the same settings goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.ascent.adam import AdamState
from onnxcam.atomic_write import atomic_write
from onnxcam.digests import digest_json
from onnxcam.errors import OutputError

INTERVAL = 30.0  # seconds between two states that are written
SUFFIX = ".checkpoint.npz"


@dataclass
class Checkpoint:
    """A file with the last state of the descent that `fingerprint` names, replaced when it is complete."""

    path: Path
    fingerprint: str
    interval: float = INTERVAL
    notices: tuple[str, ...] = ()
    _written: float = 0.0

    def load(self) -> tuple[AdamState, Floats] | None:
        """The state and the scores (steps, N) before it; None without a file, or with that of another descent,
        which `notices` tells. OutputError for a file that is no checkpoint.
        """
        self._written = time.monotonic()
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
                step, scores = int(arrays["step"]), arrays["scores"]
                state = AdamState(arrays["parameters"], arrays["first"], arrays["second"], step)
                fingerprint = str(arrays["fingerprint"])
        except FileNotFoundError:
            return None
        except (
            Exception
        ) as error:  # of a damaged file, NumPy and zipfile raise all kinds of exceptions
            raise OutputError(
                f"{self.path}: is not a checkpoint of onnxcam; move it, or choose another --out"
            ) from error
        if fingerprint != self.fingerprint or len(scores) != step:
            anew = (
                "was of another run (other settings, model, device, or versions), so this one started anew and "
                "replaced it; to keep both, choose another --out"
            )
            self.notices = (f"{self.path}: {anew}",)
            return None
        return state, scores

    def keep(self, state: AdamState, scores: Floats, *, is_last: bool) -> None:
        """Write the state, if it is the last one or the one before is old enough. OutputError if that fails."""
        if not is_last and time.monotonic() - self._written < self.interval:
            return
        with atomic_write(self.path) as unfinished, unfinished.open("wb") as file:
            np.savez(
                file,
                parameters=state.parameters,
                first=state.first,
                second=state.second,
                step=state.step,
                scores=scores,
                fingerprint=self.fingerprint,
            )
        self._written = time.monotonic()


def checkpoint_of(folder: Path, stem: str, described: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint of the descent that a manifest describes: the same one for any number of steps."""
    settings = {name: value for name, value in described["settings"].items() if name != "steps"}
    fingerprint = digest_json({**described, "settings": settings})
    return Checkpoint(folder / f"{stem}{SUFFIX}", fingerprint)
