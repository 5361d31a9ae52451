"""OpenVINO in float32: on some processors it computes in bfloat16 unless it is asked not to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from unittest.mock import patch


@contextmanager
def compiled_in_float32(threads: int = 0) -> Iterator[None]:
    """Models that OpenVINO compiles meanwhile, also in packages that leave its options alone; 0 threads: one
    for each core.
    """
    core = import_module("openvino").Core
    compile_model = core.compile_model
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}

    def compile_with_options(self: Any, model: Any, device_name: str = "CPU", **_: Any) -> Any:
        return compile_model(self, model, device_name, options)

    with patch.object(core, "compile_model", compile_with_options):
        yield
