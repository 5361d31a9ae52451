"""The scores of targets that are not classes: their expressions are written into the graph."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from onnxcam.errors import ModelError, NeedsOpsetError
from onnxcam.graph.dims import is_static
from onnxcam.graph.reachability import is_float
from onnxcam.graph.tracing import Builder, Value
from onnxcam.heads.dense_score import explained_heads
from onnxcam.model.load import upgrade_model
from onnxcam.model.model import Model
from onnxcam.specs import Score
from onnxcam.targets import TARGETS
from onnxcam.targets.kind import OUTPUT


class _Tensors(Mapping[str, Value]):
    """The tensors of a graph by name, as Values; OUTPUT is the one that is explained."""

    def __init__(self, build: Builder, model: Model, output: str | None) -> None:
        self._build, self._model, self._output = build, model, output

    def __getitem__(self, name: str) -> Value:
        return self._build.value(
            _explained_output(self._model, self._output) if name == OUTPUT else name
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._build.tensors)

    def __len__(self) -> int:
        return len(self._build.tensors)


def add_target_scores(
    model: Model, target: tuple[str, ...], output: str | None = None
) -> tuple[Model, Score]:
    """A model that returns what a kind of target explains (see `PlanRequest.target`), and its score. `output`
    is the tensor that is explained, None to find it. The opset is upgraded if the expression needs it.

    ModelError if it is not one array of floats of a known size per image.
    """
    kind, *arguments = target
    while True:
        copy = model.copy()
        try:
            value = TARGETS[kind].write(
                _Tensors(Builder(copy.graph), model, output),
                tuple(arguments),
            )
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


def _explained_output(model: Model, output: str | None) -> str:
    """The name of the output that is explained."""
    _, heads = explained_heads(model, output, _undescribed)
    return str(heads[0].logits.name)


def _undescribed(*_: object) -> str:
    """No notices: the output was described when the model was planned for classes."""
    return ""
