"""The model of some concepts, opened for what is asked of it: activations, gradients, or other values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.concept_maps.tail import open_tail
from onnxcam.explain.activations import layer_of, open_activations
from onnxcam.explain.explainer import Explainer


@dataclass(frozen=True)
class ConceptSource:
    """A model, a layer, and the arguments of `Explainer`. What the layer is, the first use decides."""

    model: Any
    layer: str | int
    arguments: Mapping[str, Any]

    @cached_property
    def activations(self) -> Explainer:
        """What runs the model for the activations of the layer."""
        return open_activations(self.model, self.layer, **self.arguments)

    @cached_property
    def gradients(self) -> Explainer:
        """The same with the gradient of a target's score."""
        return open_activations(self.model, self.layer_name, gradient=True, **self.arguments)

    @cached_property
    def tail(self) -> Explainer:
        """What runs the model after the layer on other values of it."""
        return open_tail(self.model, self.layer_name, **self.arguments)

    @property
    def layer_name(self) -> str:
        """The name of the layer."""
        return layer_of(self.activations).name

    def short_name(self, index: int) -> str:
        """The first of the names in a label, for drawings."""
        return self.class_name(index).split(",")[0]

    def class_name(self, index: int) -> str:
        """The label of a class, or its number."""
        labels = self.activations.labels
        return labels[index] if labels else f"class {index}"

    def provenance(self) -> dict[str, Any]:
        """What is needed to compute the activations again, for a manifest."""
        provenance = self.activations.origin().provenance
        return {
            name: fact
            for name, fact in provenance.items()
            if name not in ("method", "subset", "fuse")  # of a map
        }


def as_cells(maps: Floats) -> Floats:
    """Maps (C, h, w) as (cells, C)."""
    return np.moveaxis(maps, 0, -1).reshape(-1, len(maps))


def as_maps(cells: Floats, grid: tuple[int, int]) -> Floats:
    """(cells, K) as maps (K, h, w)."""
    return np.moveaxis(cells.reshape(*grid, -1), -1, 0)
