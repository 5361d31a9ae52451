"""Maps of a layer do not depend on the unit of its values: the activation s A has the gradient g / s. So a
gradient may be divided by its maximum before it is raised to powers, which float32 can hold then.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Floats
from onnxcam.methods import METHODS, QUANTITIES
from onnxcam.methods.method import Method
from onnxcam.methods.postprocess import join_channels
from onnxcam.methods.units import unit_of, unit_power
from tests.methods.support.formulas import DENSE, arguments, feed
from tests.methods.test_formulas_on_values import chosen_settings

AT_LAYER = [name for name, row in METHODS.items() if row.has_layer and row.needs_gradient]
COMPOSED = ["smooth-layer-cam", "smooth-xgrad-cam", "smooth-shapley-cam", "guided-hires-cam"]
FORMULAS = [
    pytest.param(name, chosen, id=" ".join([name, *map(str, chosen.values())]))
    for name in (*AT_LAYER, *COMPOSED)
    for chosen in chosen_settings(name)
]
PROPORTIONAL = {
    ("smooth-grad-cam++", "d1"): "alpha as printed is D_1 / D_2, which has the unit of 1 / g"
}
"""Formulas whose map is multiplied by s, which changes its values but not where they are, and why."""
SHAPE = (2, 5, 3, 4)


def run(name: str, chosen: dict[str, Any], factor: float) -> Floats:
    """The maps, with the values of the layer in a unit that is smaller by a factor."""
    method: Method = METHODS[name]
    values = {
        parameter: method.averages.get(parameter, parameter) for parameter in method.parameters
    }
    scaled = {
        parameter: array
        * factor ** (unit_of(name) if (name := values[parameter]) in QUANTITIES else 0)
        for parameter, array in arguments(name, feed(SHAPE)).items()
    }
    result: Floats = method.formula(**scaled, **{**DENSE.get(name, {}), **chosen})
    return result if result.ndim == 3 else join_channels(result, method.channels)


@pytest.mark.parametrize("factor", [2.0**-20, 2.0**20, 3.7, 1e-5])
@pytest.mark.parametrize(("name", "chosen"), FORMULAS)
def test_map_does_not_depend_on_the_unit_of_the_layer(
    name: str, chosen: dict[str, Any], factor: float
) -> None:
    exceptions = [
        PROPORTIONAL[key] for key in PROPORTIONAL if key == (name, chosen.get("numerator"))
    ]
    expected = run(name, chosen, 1.0) * (factor if exceptions else 1.0)
    assert expected.any()
    largest = float(np.max(np.abs(expected)))
    actual = run(name, chosen, factor)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * largest)


def test_units_of_quantities_are_those_of_derivatives() -> None:
    powers = {name: unit_of(name) for name in QUANTITIES}
    assert {name: power for name, power in powers.items() if power} == {
        "activation": 1,
        "mean_activation": 1,
        "attention": 1,
        "gradient": -1,
        "hvp": -1,
        "bias_gradient": -1,
        "d1": -1,
        "d2": -2,
        "d3": -3,
        "gradient_step": -1,
    }


@pytest.mark.parametrize(("name", "chosen"), FORMULAS)
def test_power_of_the_unit_is_found_on_random_values(name: str, chosen: dict[str, Any]) -> None:
    settings = METHODS[name].resolve_settings(chosen)
    expected = 1 if (name, chosen.get("numerator")) in PROPORTIONAL else 0
    assert unit_power(METHODS[name], settings) == expected


@pytest.mark.parametrize(
    ("formula", "power"),
    [
        (lambda activation, gradient: np.sum(activation * gradient, axis=1), 0),
        (lambda activation, gradient: np.sum(activation + 0 * gradient, axis=1), 1),
        (lambda gradient: np.sum(np.square(gradient), axis=1), -2),
        (lambda activation, gradient: np.sum(activation + gradient, axis=1), None),
        (lambda gradient: np.sum(gradient * np.ones((1, 512, 1, 1)), axis=1), None),
        (lambda activation, gradient: 0 * np.sum(activation + gradient, axis=1), None),
        (
            lambda activation, gradient: np.sum(activation * np.maximum(gradient - 0.2, 0), axis=1),
            None,
        ),
    ],
)
def test_formula_without_a_unit_has_no_power(formula: Any, power: int | None) -> None:
    own = replace(METHODS["grad-cam"], formula=formula)
    assert unit_power(own, {}) == power


@pytest.mark.parametrize("name", ["saliency", "legrad", "full-grad", "recipro-cam"])
def test_methods_without_a_gradient_of_one_layer_have_no_power(name: str) -> None:
    assert unit_power(METHODS[name], METHODS[name].resolve_settings({})) is None
