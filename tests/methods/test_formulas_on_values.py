"""Every formula computes the same on arrays and, written into a graph, in ONNX Runtime."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Floats, Shape
from onnxcam.graph.opset import NEWEST
from onnxcam.methods import METHODS
from onnxcam.methods.settings import formula_settings
from tests.methods.support.written import float32, run_written

N, C, H, W = 2, 5, 3, 4
SIZES: dict[str, tuple[int, ...]] = {"class_weight": (N, C)}  # of the quantities that have no cells
POWERS = {"d1": 1, "d2": 2, "d3": 3}  # the means of powers over samples


def draw_samples(quantity: str) -> Floats:
    """Four samples of a quantity, the same of all powers; most of a gradient is positive, so that few
    denominators are near 0, where float32 would show nothing but rounding.
    """
    source = "gradient" if quantity in POWERS else quantity
    generator = np.random.default_rng([ord(letter) for letter in source])
    return generator.normal(0.4, 1.0, size=(4, *SIZES.get(quantity, (N, C, H, W))))


def draw(quantity: str) -> Floats:
    """Random numbers for a quantity, by its name."""
    samples = draw_samples(quantity)
    return np.mean(samples ** POWERS[quantity], axis=0) if quantity in POWERS else samples[0]


def filled(number: float, quantity: str) -> Floats:
    return np.full(SIZES.get(quantity, (N, C, H, W)), number)


def zero_denominator(quantity: str) -> Floats:
    """2 D_2 + (sum A) D_3 is 0, as H W = 12."""
    return filled({"d2": 6.0, "d3": -1.0, "gradient": -1 / 6}.get(quantity, 1.0), quantity)


CASES: dict[str, Callable[[str], Floats]] = {
    "random": draw,
    "zeros": functools.partial(filled, 0.0),
    "zero gradient": lambda name: draw(name) * (name == "activation"),
    "negative activation": lambda name: -np.abs(draw(name)) if name == "activation" else draw(name),
    "constant": functools.partial(filled, 2.0),
    "negative constant": functools.partial(filled, -2.0),
    "zero denominator": zero_denominator,
    "one image without evidence": lambda name: (
        draw(name) * (np.arange(N) > 0).reshape(-1, *[1] * (draw(name).ndim - 1))
    ),
}


def chosen_settings(name: str) -> Iterator[dict[str, Any]]:
    """Every combination of the choices of a method's formula."""
    choices = {
        setting: known.choices
        for setting, known in formula_settings(METHODS[name].formula).items()
        if known.choices
    }
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


FORMULAS = [
    pytest.param(name, chosen, id=" ".join([name, *map(str, chosen.values())]))
    for name in METHODS
    for chosen in chosen_settings(name)
]


def assert_same(written: Any, computed: Any, tolerance: float) -> None:
    """Equal up to a tolerance, as a fraction of the maximum; and finite."""
    assert written.shape == computed.shape
    assert np.isfinite(computed).all()
    largest = np.max(np.abs(computed))
    np.testing.assert_allclose(written, computed, rtol=0, atol=tolerance * largest)


def compare(
    name: str,
    quantities: Mapping[str, Floats],
    chosen: dict[str, Any],
    tolerance: float,
    **options: Any,
) -> None:
    formula = functools.partial(METHODS[name].formula, **chosen)
    doubles = [array.astype(np.float64) for array in quantities.values()]
    assert_same(run_written(formula, quantities, **options), formula(*doubles), tolerance)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("name", "chosen"), FORMULAS)
def test_formula_on_values_equals_formula_on_arrays(
    name: str, chosen: dict[str, Any], case: str
) -> None:
    quantities = {quantity: CASES[case](quantity) for quantity in METHODS[name].quantities}
    compare(name, quantities, chosen, 1e-9)
    compare(name, float32(quantities), chosen, 1e-5)


@pytest.mark.parametrize("opset", [9, 13, NEWEST])
@pytest.mark.parametrize(("name", "chosen"), FORMULAS)
def test_formula_on_values_takes_any_number_of_images(
    name: str, chosen: dict[str, Any], opset: int
) -> None:
    """At old opsets, too, or at the opset that the error names."""
    quantities = {quantity: draw(quantity) for quantity in METHODS[name].quantities}
    shapes: dict[str, Shape] = {key: ("N", *a.shape[1:]) for key, a in quantities.items()}
    compare(name, quantities, chosen, 1e-9, shapes=shapes, opset=opset)


def test_random_quantities_give_maps_with_evidence() -> None:
    """A comparison of zeros would prove nothing."""
    for name in METHODS:
        maps = METHODS[name].formula(*(draw(quantity) for quantity in METHODS[name].quantities))
        assert np.count_nonzero(maps) > maps.size / 4, name
