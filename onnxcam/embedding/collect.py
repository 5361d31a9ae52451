"""The quantities of a method over the rounds: of the image itself, and means over its samples.

They are float32, as browsers' GPUs take nothing else. So that powers of small gradients do not vanish, powers
at a layer are computed in a unit in which the largest gradient there is 1, and the layer's values in its
inverse: a formula of both gives the same map in any unit of the layer's values, or that map times a power of
the unit; one that does not (`methods/units.py`) is computed without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import FLOAT32, Floats
from onnxcam.embedding.rounds import Rounds
from onnxcam.embedding.rows import as_rows, flatten_rows, row_of_image, unflatten_rows
from onnxcam.embedding.scope import Result, Scope
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value
from onnxcam.methods.quantities import Quantity
from onnxcam.methods.samplers.sampler import Samples
from onnxcam.rewrite.sources import Sources

Finish = Callable[[], Value]


@dataclass(frozen=True)
class Unit:
    """The unit of the gradients of a layer. `now` (N, 1, 1, 1) is the largest so far, `decay` what it was
    before as a part of it.
    """

    now: Value
    decay: Value
    largest: Result


@dataclass
class Collector:
    """Writes quantities into the body.

    Attributes:
        factors: (rounds, size) float32, the factors of the cotangents of the rows.
        has_unit: whether powers are computed in a unit of the layer; not where the image itself is the layer.
    """

    scope: Scope
    rounds: Rounds
    sources: Sources
    samples: Samples | None
    factors: Floats
    has_unit: bool
    _units: dict[str, Unit] = field(default_factory=dict)

    def collect(self, quantity: Quantity, layer: str) -> Finish:
        """A function that returns the quantity (N, ...) in the outer graph, after the rounds are closed."""
        value = self._expression(quantity, layer)
        if quantity.reduction == "stack":
            return self._stack(value)
        if quantity.reduction == "mean" and not self.rounds.is_alone:
            return self._mean(quantity, value, layer)
        images, size = self.scope.images, self.rounds.size
        result = self.scope.from_first_round(row_of_image(value, images, size))
        return lambda: result.value

    def unit(self, layer: str) -> Value | None:
        """The unit (N, 1, 1, 1) of the layer's gradients in the outer graph, None if there is none."""
        if layer not in self._units:
            return None
        return anp.reshape(_nonzero(self._units[layer].largest.value), (-1, 1, 1, 1))

    def _expression(self, quantity: Quantity, layer: str) -> Value:
        """The quantity of every row (rows, ...), in float32."""
        arguments = {
            name: value.astype(FLOAT32) if isinstance(value, Value) else value
            for name, value in self.sources.arguments(quantity, layer).items()
        }
        if self._needs_unit(quantity):
            unit = self._unit(arguments["gradient"], layer)
            arguments["gradient"] = arguments["gradient"] / self._per_row(_nonzero(unit.now))
        value: Value = quantity.expression(**arguments)
        return self.sources.for_each_image(value) if value.constant is not None else value

    def _needs_unit(self, quantity: Quantity) -> bool:
        """Whether a power of the gradient at a layer is computed."""
        return (quantity.degree or 0) > 1 and quantity.place == "layer" and self.has_unit

    def _unit(self, gradient: Value, layer: str) -> Unit:
        if layer not in self._units:
            by_image = unflatten_rows(anp.abs(gradient), self.scope.images, self.rounds.size)
            axes = tuple(range(1, by_image.ndim))
            largest = anp.reshape(anp.max(by_image, axis=axes), (-1, *[1] * (gradient.ndim - 1)))
            before, result = self.scope.largest(largest)
            self._units[layer] = Unit(result.body, before / _nonzero(result.body), result)
        return self._units[layer]

    def _per_row(self, value: Value) -> Value:
        """(N, 1, 1, 1) for the rows of all images (rows, 1, 1, 1)."""
        if self.scope.images == 1 or self.rounds.size == 1:
            return value
        repeated = value.build.op(
            "Expand",
            anp.expand_dims(value, 1),
            value.build.constant(np.array([1, self.rounds.size, *[1] * (value.ndim - 1)])),
            shape=(value.shape[0], self.rounds.size, *value.shape[1:]),
        )
        return flatten_rows(repeated)

    def _mean(self, quantity: Quantity, value: Value, layer: str) -> Finish:
        by_image = unflatten_rows(value, self.scope.images, self.rounds.size)
        has_others = not self.rounds.is_sample.all()
        if has_others and (not quantity.degree or self.factors[0, 0]):  # they must add nothing
            counted = self.scope.pick(self.rounds.is_sample.astype(np.float32))
            by_image = by_image * as_rows(counted, self.scope, by_image.ndim)
        decay = None
        if self._needs_unit(quantity):
            decay = _power(self._units[layer].decay, quantity.degree or 0)
        result = self.scope.total(anp.sum(by_image, axis=1), decay)
        return lambda: result.value / float(self.rounds.samples)

    def _stack(self, value: Value) -> Finish:
        result = self.scope.stack(anp.reshape(value, (-1, self.rounds.size)))
        numbers, is_run = self._columns()

        def finish() -> Value:
            build = result.value.build
            taken = build.op("Gather", result.value, build.constant(numbers), axis=1)
            return taken if is_run.all() else taken * is_run.astype(np.float32)[None]

        return finish

    def _columns(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The row of each column of stacked numbers, and whether there is one: else the number is 0."""
        count = self.rounds.samples
        rows = self.rounds.first + np.arange(count, dtype=np.int64)
        if self.samples is None or self.samples.columns is None:
            return rows, np.ones(count, np.bool_)
        numbers = np.full(self.samples.width, -1, np.int64)
        numbers[self.samples.columns] = rows
        return np.maximum(numbers, 0), numbers >= 0


def _power(value: Value, exponent: int) -> Value:
    result = value
    for _ in range(exponent - 1):
        result = result * value
    return result


def _nonzero(value: Value) -> Value:
    """A divisor: 1 in place of 0."""
    return anp.where(value > 0, value, 1.0)
