"""Every formula computes the same on arrays and, written into a graph, in ONNX Runtime."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Floats, Shape
from onnxcam.graph.opset import NEWEST
from onnxcam.methods import METHODS, QUANTITIES
from onnxcam.methods.settings import settings_of
from tests.methods.support.formulas import DENSE, arguments, quantities_of
from tests.methods.support.written import float32, run_written

N, C, H, W = 2, 5, 3, 4
SAMPLES = 4
Case = Callable[[str, Floats], Floats]


@functools.cache
def draw() -> dict[str, Floats]:
    """Random numbers for all quantities, as their expressions compute them from the same samples; most of a
    gradient is positive, so that few denominators are near 0, where float32 would show nothing but rounding.
    """
    activations, gradients = (
        np.random.default_rng([ord(letter) for letter in source]).normal(
            0.4, 1.0, size=(SAMPLES, N, C, H, W)
        )
        for source in ("activation", "gradient")
    )
    return quantities_of(activations, gradients)


def is_evidence(quantity: str) -> bool:
    """Whether it is 0 without a gradient."""
    return quantity in QUANTITIES and QUANTITIES[quantity].needs_gradient


def zero_denominator(quantity: str, array: Floats) -> Floats:
    """2 D_2 + (sum A) D_3 is 0, as H W = 12."""
    return np.full_like(array, {"d2": 6.0, "d3": -1.0, "gradient": -1 / 6}.get(quantity, 1.0))


CASES: dict[str, Case] = {
    "random": lambda _, array: array,
    "zeros": lambda _, array: np.zeros_like(array),
    "zero gradient": lambda name, array: array * (not is_evidence(name)),
    "negative activation": lambda name, array: -np.abs(array) if name == "activation" else array,
    "constant": lambda _, array: np.full_like(array, 2.0),
    "negative constant": lambda _, array: np.full_like(array, -2.0),
    "zero denominator": zero_denominator,
    "one image without evidence": lambda _, array: (
        array * (np.arange(N) > 0).reshape(-1, *[1] * (array.ndim - 1))
    ),
}


def taken(name: str, case: str) -> dict[str, Any]:
    """What the formula of a method takes; several tensors as tuples."""
    return arguments(name, {key: CASES[case](key, array) for key, array in draw().items()})


def chosen_settings(name: str) -> Iterator[dict[str, Any]]:
    """Every combination of the choices of a method's formula, with what makes its map dense."""
    choices = {
        setting: known.choices
        for setting, known in settings_of(METHODS[name].formula).items()
        if known.choices
    }
    for values in itertools.product(*choices.values()):
        yield DENSE.get(name, {}) | dict(zip(choices, values, strict=True))


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
    name: str, taken: Mapping[str, Any], chosen: dict[str, Any], tolerance: float, **options: Any
) -> None:
    formula = functools.partial(METHODS[name].formula, **chosen)
    arrays = flat(taken)
    doubles = [array.astype(np.float64) for array in arrays.values()]

    def run_formula(*values: Any) -> Any:
        return formula(**nested(taken, iter(values)))

    assert_same(run_written(run_formula, arrays, **options), run_formula(*doubles), tolerance)


def flat(taken: Mapping[str, Any]) -> dict[str, Floats]:
    """The arrays by name, those of tuples with their number."""
    return {
        f"{name}{number}": array
        for name, value in taken.items()
        for number, array in enumerate(value if isinstance(value, tuple) else (value,))
    }


def nested(taken: Mapping[str, Any], values: Iterator[Any]) -> dict[str, Any]:
    """The same with other values, in the order of `flat`."""
    return {
        name: tuple(next(values) for _ in value) if isinstance(value, tuple) else next(values)
        for name, value in taken.items()
    }


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("name", "chosen"), FORMULAS)
def test_formula_on_values_equals_formula_on_arrays(
    name: str, chosen: dict[str, Any], case: str
) -> None:
    doubles = taken(name, case)
    compare(name, doubles, chosen, 1e-9)
    compare(name, nested(doubles, iter(float32(flat(doubles)).values())), chosen, 1e-5)


@pytest.mark.parametrize("opset", [9, 13, NEWEST])
@pytest.mark.parametrize(("name", "chosen"), FORMULAS)
def test_formula_on_values_takes_any_number_of_images(
    name: str, chosen: dict[str, Any], opset: int
) -> None:
    """At old opsets, too, or at the opset that the error names."""
    doubles = taken(name, "random")
    shapes: dict[str, Shape] = {key: ("N", *a.shape[1:]) for key, a in flat(doubles).items()}
    compare(name, doubles, chosen, 1e-9, shapes=shapes, opset=opset)


def test_random_quantities_give_maps_with_evidence() -> None:
    """A comparison of zeros would prove nothing."""
    for name in METHODS:
        maps = METHODS[name].formula(**taken(name, "random"), **DENSE.get(name, {}))
        assert np.count_nonzero(maps) > maps.size / 4, name


def test_formula_of_several_tensors_gets_tuples() -> None:
    """What is flat in the graph comes back in the form that the formula takes."""
    several = {"image": np.ones(2), "bias_gradient": (np.zeros(3), np.ones(1))}
    assert [*flat(several)] == ["image0", "bias_gradient0", "bias_gradient1"]
    again = nested(several, iter("abc"))
    assert again == {"image": "a", "bias_gradient": ("b", "c")}
