"""Open what runs a model for a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from onnxcam.arrays import Array
from onnxcam.explain.compile import chunked_runners, compile_model
from onnxcam.explain.loaded_model import LoadedModel
from onnxcam.explain.run import Runner
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import memory_errors
from onnxcam.specs import PlanRequest


class Options(NamedTuple):
    """What a model is opened with, the same for every request; `loaded` keeps it for the next one.
    `size` (height, width) is that of the images if the user names one.
    """

    model: Any
    device: Device
    inputs: Mapping[str, Array]
    chunk: int | None
    cache: bool
    loaded: LoadedModel | None = None
    size: tuple[int, int] | None = None


def open_runner(options: Options, request: PlanRequest) -> Runner:
    """What runs a request: loaded from the cache, or planned and compiled."""
    with memory_errors("while the model was opened"):
        compiled = compile_model(
            options.model,
            request,
            options.device,
            cached=options.cache,
            inputs=options.inputs,
            loaded=options.loaded,
            size=options.size,
        )
    return Runner(compiled.plan, chunked_runners(compiled, options.chunk))
