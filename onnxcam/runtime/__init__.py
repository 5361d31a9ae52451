"""The only package that imports ONNX Runtime; this file runs before it is imported."""

from __future__ import annotations

import os

# ONNX Runtime 1.31 writes a device id and a queue of events under the home folder when it is imported.
# It reads the variable only then, so it is set before; a value set by the user is not changed.
NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
DISABLING = {"1", "true", "yes"}  # the values that mean yes to ONNX Runtime
os.environ.setdefault(NO_TELEMETRY, "1")


def telemetry() -> dict[str, str | bool]:
    """Whether ONNX Runtime's telemetry is off, and the setting that says so."""
    value = os.environ.get(NO_TELEMETRY, "")
    return {"disabled": value.lower() in DISABLING, "setting": f"{NO_TELEMETRY}={value}"}
