"""The scores of targets that are not classes: their expressions are written into the graph."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from onnxcam.errors import ModelError, NeedsOpsetError
from onnxcam.graph.dims import is_static
from onnxcam.graph.reachability import is_float
from onnxcam.graph.tracing import Builder, Value
from onnxcam.model.load import upgrade_model
from onnxcam.model.model import Model
from onnxcam.specs import Score
from onnxcam.targets import TARGETS


class _Tensors(Mapping[str, Value]):
    """The tensors of a graph by name, as Values."""

    def __init__(self, build: Builder) -> None:
        self._build = build

    def __getitem__(self, name: str) -> Value:
        return self._build.value(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._build.tensors)

    def __len__(self) -> int:
        return len(self._build.tensors)


def add_target_scores(model: Model, target: tuple[str, ...]) -> tuple[Model, Score]:
    """A model that returns what a kind of target explains (see `PlanRequest.target`), and its score. The
    opset is upgraded if the expression needs it.

    ModelError if it is not one array of floats of a known size per image.
    """
    kind, *arguments = target
    while True:
        copy = model.copy()
        try:
            value = TARGETS[kind].write(_Tensors(Builder(copy.graph)), tuple(arguments))
            break
        except NeedsOpsetError as need:
            model = upgrade_model(model, need.opset)
    shape = value.shape[1:]
    if not is_static(shape) or not is_float(value.tensor) or value.ndim < 1:
        raise ModelError(
            f"{model.name}: target {kind!r}: {value.name!r} has the shape {value.shape} and the dtype "
            f"{value.dtype}; expected floats with a batch axis and sizes that the model fixes"
        )
    if value.name not in {tensor.name for tensor in copy.graph.outputs}:
        copy.graph.outputs.append(value.tensor)
    return copy, Score(value.name, value.name, None, math.prod(map(int, shape)))
