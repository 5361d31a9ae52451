"""A formula with its settings, and what it makes of the quantities of one layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from onnxcam.arrays import Floats, Quantities, Saliency
from onnxcam.methods import QUANTITIES, Method
from onnxcam.methods.method import RESULTS, positional
from onnxcam.methods.place import IMAGE
from onnxcam.methods.postprocess import join_channels
from onnxcam.methods.subset import Subset


class MapResult(NamedTuple):
    """Maps (N, h, w) of a layer; for methods at the image also the attributions (N, C, H, W)."""

    saliency: Saliency
    attributions: Floats | None = None

    def cleared(self) -> MapResult:
        """The same with zeros."""
        attributions = None if self.attributions is None else np.zeros_like(self.attributions)
        return MapResult(np.zeros_like(self.saliency), attributions)

    def row(self, row: slice) -> MapResult:
        """The map of one image."""
        attributions = None if self.attributions is None else self.attributions[row]
        return MapResult(self.saliency[row], attributions)

    def with_row(self, row: slice, result: MapResult) -> MapResult:
        """These maps, after that of one image was replaced in place."""
        self.saliency[row] = result.saliency
        if self.attributions is not None and result.attributions is not None:
            self.attributions[row] = result.attributions
        return self


@dataclass(frozen=True)
class BoundFormula:
    """A method with its settings, and the feature maps and cells that count."""

    method: Method
    settings: Mapping[str, Any]
    subset: Subset

    @cached_property
    def quantities(self) -> dict[str, str]:
        """The quantity that each parameter gets."""
        return self.method.quantities(self.settings)

    @property
    def order(self) -> int:
        """The power of the gradient that the map is about proportional to: 2 for a variance, else the lowest
        power that the formula takes.
        """
        if self.method.variance:
            return 2
        rows = (QUANTITIES[name] for name in self.quantities.values())
        return min((row.degree for row in rows if row.degree and row.needs_gradient), default=1)

    @property
    def takes_tensors(self) -> bool:
        """Whether the formula takes the quantities of all its tensors at once."""
        return not self.method.has_layer and self.method.at != IMAGE

    def select(self, quantities: Quantities) -> Quantities:
        """The quantities of the feature maps and cells that count."""
        return self.subset.select(quantities) if self.method.has_subsets else quantities

    def compute(self, quantities: Mapping[str, Any]) -> MapResult:
        """The map, from quantities that `select` returned."""
        arguments = self._arguments(self.method.formula, quantities)
        result = self.method.formula(**arguments, **self.method.formula_settings(self.settings))
        self._check(result)
        if result.ndim == 3:
            return MapResult(result)
        return MapResult(join_channels(result, self.method.channels), result)

    def _check(self, result: Any) -> None:
        """ValueError for a result that is no map."""
        at_image = {3: "(N, H, W)", 4: "(N, C, H, W)"}
        shapes = at_image if self.method.is_at_image else {3: "(N, h, w)"}
        if getattr(result, "ndim", 0) not in shapes:  # of arrays, and of graph Values
            raise ValueError(
                f"the formula of {self.method.name} returned an array of shape {np.shape(result)}; expected "
                f"{' or '.join(shapes.values())}"
            )

    def refusal(self, quantities: Mapping[str, Any], *, is_constant: bool) -> str | None:
        """Why the method does not apply; None if it does."""
        check = self.method.check
        if check is None:
            return None
        reason: str | None = check(**self._arguments(check, quantities), is_constant=is_constant)
        return reason

    def report(self, quantities: Mapping[str, Any], result: MapResult) -> dict[str, Floats]:
        """The facts that the method reports, {name: (N,)}."""
        report = self.method.report
        if report is None:
            return {}
        results = {name: getattr(result, name) for name in positional(report) if name in RESULTS}
        facts: dict[str, Floats] = report(**self._arguments(report, quantities), **results)
        return facts

    def _arguments(
        self, function: Callable[..., Any], quantities: Mapping[str, Any]
    ) -> dict[str, Any]:
        names = (name for name in positional(function) if name not in RESULTS)
        return {name: quantities[self.quantities.get(name, name)] for name in names}


def join_tensors(layers: Sequence[Quantities]) -> dict[str, Any]:
    """The quantities of several tensors as one: those at the tensors become tuples, in their order."""
    return {
        name: tuple(layer[name] for layer in layers)
        if name in QUANTITIES and QUANTITIES[name].place == "layer"
        else array
        for name, array in layers[0].items()
    }
