"""In which unit of a layer's values the map of a formula is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onnxcam.arrays import Floats, Maps
from onnxcam.methods.method import Method, positional
from onnxcam.methods.quantities import QUANTITIES
from onnxcam.methods.subset import COUNTED

SHAPES = {"layer": (1, 3, 4, 5), "image": (1, 3, 8, 10), "": (1,)}  # by the place of a quantity
TRIALS = 3  # random layers
FACTORS = (2.0, 8.0)
MOST = 4  # the largest power that is looked for
ROUNDING = 1e-9  # part of the largest value of a map


def unit_power(method: Method, settings: Mapping[str, Any]) -> int | None:
    """The power p with which the map of a method at a layer follows the unit of the layer's values: for the
    values s A and the gradient g / s it is s^p times that for A and g. 0 for most methods. None if there is
    none, or if it cannot be computed on random values.
    """
    taken = method.quantities(settings)
    others = {*positional(method.formula)} - {*taken, COUNTED}
    if (
        not method.has_layer
        or others
        or any(QUANTITIES[n].reduction == "stack" for n in taken.values())
    ):
        return None
    try:
        powers = {
            power for seed in range(TRIALS) for power in _powers(method, taken, settings, seed)
        }
    except (ValueError, IndexError):  # it takes layers of another size
        return None
    return powers.pop() if len(powers) == 1 else None


def unit_of(quantity: str) -> int:
    """The power of the unit of a layer's values in a quantity."""
    row = QUANTITIES[quantity]
    if row.place != "layer":
        return 0
    return 1 if row.sources == {"activation"} else -(row.degree or 0)


def _powers(
    method: Method, taken: Mapping[str, str], settings: Mapping[str, Any], seed: int
) -> set[int | None]:
    """The power for random values, of which those of the first seed are positive; none if the map is empty."""
    values = {name: _random(quantity, seed) for name, quantity in taken.items()}
    if COUNTED in positional(method.formula):
        values[COUNTED] = np.ones(SHAPES["layer"])
    chosen = method.formula_settings(settings)

    def compute(factor: float) -> Floats:
        units = {name: factor ** unit_of(quantity) for name, quantity in taken.items()}
        scaled = {name: array * units.get(name, 1.0) for name, array in values.items()}
        result: Floats = method.formula(
            **{name: scaled[name] for name in positional(method.formula)}, **chosen
        )
        return result

    return _power_of(compute) if np.any(compute(1.0)) else set()


def _power_of(compute: Callable[[float], Floats]) -> set[int | None]:
    """The power with which maps follow a factor; None if they do not follow one."""
    maps, *others = (compute(factor) for factor in (1.0, *FACTORS))
    largest = float(np.max(np.abs(maps)))
    ratio = float(np.max(np.abs(others[0]))) / largest
    power = round(math.log2(ratio)) if 2.0**-MOST <= ratio <= 2.0**MOST else MOST
    scales = [factor**power for factor in FACTORS]
    is_power = all(
        np.allclose(other, scale * maps, rtol=0, atol=ROUNDING * scale * largest)
        for other, scale in zip(others, scales, strict=True)
    )
    return {power if is_power else None}


def _random(quantity: str, seed: int) -> Maps:
    """A quantity of a random layer."""
    row = QUANTITIES[quantity]
    shape = SHAPES[row.place]
    source = "activation" if row.sources == {"activation"} else "gradient"
    draw = np.random.default_rng([seed, len(source)])
    base = draw.uniform(0.1, 1.0, shape) * (1 if seed == 0 else draw.choice([-1, 1], shape))
    return np.asarray(base ** (row.degree or 1))
