"""Every formula agrees with a slow implementation of its paper that computes one cell at a time."""

# mypy: disallow-untyped-decorators=False

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxcam.arrays import Floats, Maps, Saliency
from onnxcam.errors import SettingError
from onnxcam.methods import METHODS, QUANTITIES, SAMPLERS, method
from onnxcam.methods.postprocess import join_channels
from onnxcam.specs import Layer
from tests.methods.support.formulas import NAMED, arguments, feed, quantities_of, run

SHAPES = [(1, 1, 1, 1), (2, 3, 4, 5), (1, 7, 3, 3), (3, 2, 1, 6)]
Paper = Callable[..., Any]


def cells(maps: Maps) -> list[tuple[int, int]]:
    return [(i, j) for i in range(maps.shape[2]) for j in range(maps.shape[3])]


def weighted_map(weight: Callable[[int, int], float], activation: Maps) -> Saliency:
    """relu(sum_k w_k A_k), one cell at a time (Selvaraju et al. 2017, eq. 2)."""
    n, channels, h, w = activation.shape
    saliency = np.zeros((n, h, w))
    for b in range(n):
        weights = [weight(b, k) for k in range(channels)]
        for i, j in cells(activation):
            saliency[b, i, j] = max(
                0.0, sum(weights[k] * activation[b, k, i, j] for k in range(channels))
            )
    return saliency


def paper_cam(activation: Maps, gradient: Maps) -> Saliency:
    """Zhou et al. 2016, eq. 2: M_c(x, y) = sum_k w_k^c f_k(x, y). A linear layer with the weights w_k^c after
    the mean over Z cells has the gradient w_k^c / Z in each of them.
    """

    def weight(b: int, k: int) -> float:
        total = 0.0
        for i, j in cells(gradient):
            total += gradient[b, k, i, j]
        return total

    return weighted_map(weight, activation)


def paper_grad_cam(activation: Maps, gradient: Maps) -> Saliency:
    """Selvaraju et al. 2017, eq. 1: alpha_k = 1/Z sum_i sum_j dy/dA_ij^k."""

    def weight(b: int, k: int) -> float:
        total = 0.0
        for i, j in cells(gradient):
            total += gradient[b, k, i, j]
        return total / len(cells(gradient))

    return weighted_map(weight, activation)


def paper_grad_cam_plus_plus(activation: Maps, gradient: Maps) -> Saliency:
    """Chattopadhay et al. 2018, eq. 19, with the powers of g for the derivatives of exp(S) (eq. 16-18),
    and eq. 5 for the weights.
    """

    def weight(b: int, k: int) -> float:
        mass = sum(activation[b, k, i, j] for i, j in cells(activation))
        total = 0.0
        for i, j in cells(gradient):
            g = gradient[b, k, i, j]
            denominator = 2 * g**2 + mass * g**3
            total += (g**2 / denominator if denominator > 0 else 0.0) * max(g, 0.0)
        return total

    return weighted_map(weight, activation)


def paper_smooth(variant: str) -> Paper:
    def paper(activation: Maps, d1: Maps, d2: Maps, d3: Maps) -> Saliency:
        """Omeiza et al. 2019, the averaged derivatives D_p in Grad-CAM++'s alpha and weights."""

        def weight(b: int, k: int) -> float:
            mass = sum(activation[b, k, i, j] for i, j in cells(activation))
            total = 0.0
            for i, j in cells(activation):
                numerator = d1[b, k, i, j] if variant == "d1" else d2[b, k, i, j]
                denominator = 2 * d2[b, k, i, j] + mass * d3[b, k, i, j]
                total += (numerator / denominator if denominator > 0 else 0.0) * max(
                    d1[b, k, i, j], 0.0
                )
            return total

        return weighted_map(weight, activation)

    return paper


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("name", "paper", "chosen"),
    [
        ("cam", paper_cam, {}),
        ("grad-cam", paper_grad_cam, {}),
        ("grad-cam++", paper_grad_cam_plus_plus, {}),
        ("smooth-grad-cam++", paper_smooth("d2"), {}),
        ("smooth-grad-cam++", paper_smooth("d2"), {"numerator": "d2"}),
        ("smooth-grad-cam++", paper_smooth("d1"), {"numerator": "d1"}),
    ],
)
def test_formulas_agree_with_papers(
    name: str, paper: Paper, chosen: dict[str, Any], shape: tuple[int, ...]
) -> None:
    for seed in range(5):
        quantities = feed(shape, seed)
        expected = paper(**arguments(name, quantities))
        np.testing.assert_allclose(
            run(name, quantities, **chosen), expected, rtol=1e-12, atol=1e-14
        )


def test_paper_implementations_give_nonzero_maps() -> None:
    """A comparison of zeros would prove nothing."""
    quantities = feed((2, 3, 6, 9))
    for name in METHODS:
        assert (run(name, quantities) != 0).sum() > 5, name
    assert not np.allclose(
        run("smooth-grad-cam++", quantities), run("smooth-grad-cam++", quantities, numerator="d1")
    )


@pytest.mark.parametrize("numerator", ["d1", "d2"])
def test_nonpositive_denominator_gives_zero_weight(numerator: str) -> None:
    activation = np.full((1, 1, 1, 1), 2.0)
    for d2, d3 in ((1.0, -1.0), (1.0, -2.0), (0.0, 0.0)):  # 2 D_2 + 2 D_3 is 0, -2, 0
        maps = METHODS["smooth-grad-cam++"].formula(
            activation, np.ones((1, 1, 1, 1)), np.full((1, 1, 1, 1), d2), np.full((1, 1, 1, 1), d3),
            numerator=numerator,
        )  # fmt: skip
        assert maps.tolist() == [[[0.0]]]


def test_single_sample_without_noise_equals_grad_cam_plus_plus() -> None:
    quantities = feed((2, 3, 4, 5))
    g = quantities["gradient"]
    once = {**quantities, "d1": g, "d2": g**2, "d3": g**3}
    np.testing.assert_allclose(
        run("smooth-grad-cam++", once), run("grad-cam++", quantities), rtol=1e-12
    )


# Properties of every method

GRADIENTS = {name for name, quantity in QUANTITIES.items() if quantity.needs_gradient}
numbers = st.floats(-1000, 1000, width=32, allow_subnormal=True)


@st.composite
def feeds(draw: st.DrawFn) -> dict[str, Floats]:
    shape = draw(hnp.array_shapes(min_dims=4, max_dims=4, max_side=3))
    activations = draw(hnp.arrays(np.float64, (2, *shape), elements=numbers))
    samples = draw(hnp.arrays(np.float64, (2, *shape), elements=numbers))
    return quantities_of(activations, samples)


def test_feed_has_all_quantities() -> None:
    named = {name for sampler in SAMPLERS.values() for name in sampler.named}
    assert named <= QUANTITIES.keys() | NAMED.keys()
    assert feed((1, 1, 1, 1)).keys() == QUANTITIES.keys() | NAMED.keys()


def test_gradients_are_known() -> None:
    """A comparison without them would prove nothing."""
    assert {"gradient", "image_gradient", "d1", "d2", "d3", "hvp"} <= GRADIENTS
    assert not GRADIENTS & {"activation", "image", "score", "mean_activation"}


@pytest.mark.parametrize("name", METHODS)
@settings(derandomize=True, deadline=None, max_examples=60)
@given(feeds())
def test_maps_are_finite_and_not_negative(name: str, quantities: dict[str, Floats]) -> None:
    maps = run(name, quantities)
    n, _, h, w = quantities["activation"].shape
    assert maps.shape == (n, h, w)
    assert np.isfinite(maps).all()
    assert METHODS[name].signed or (maps >= 0).all()


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].needs_gradient])
def test_zero_gradient_gives_empty_map(name: str) -> None:
    quantities = feed((2, 3, 4, 5))
    quantities.update({quantity: np.zeros_like(quantities[quantity]) for quantity in GRADIENTS})
    assert not run(name, quantities).any()


@pytest.mark.parametrize("name", METHODS)
def test_images_of_batch_are_independent(name: str) -> None:
    """Exactly, for arrays in C order: in another one, NumPy may add up in another order."""
    quantities = feed((3, 4, 5, 2))
    together = run(name, quantities)
    for i in (2, 0, 1):
        alone = run(name, {quantity: array[i : i + 1] for quantity, array in quantities.items()})
        np.testing.assert_array_equal(alone[0], together[i])
    reversed_ = run(
        name, {key: np.ascontiguousarray(array[::-1]) for key, array in quantities.items()}
    )
    np.testing.assert_array_equal(reversed_, together[::-1])


def has_samples_per_map(name: str) -> bool:
    """Whether the method runs samples for each feature map, next to each other."""
    layers = [Layer("", "", (1, maps, 3, 4), 1, is_bottleneck=True) for maps in (6, 7)]
    defaults = {key: setting.default for key, setting in METHODS[name].settings.items()}
    first, second = (METHODS[name].sampler.count(layer, defaults) for layer in layers)
    return first != second


def permute(name: str, quantity: str, array: Any, order: Any) -> Any:
    """What a formula takes, with the feature maps in another order."""
    if isinstance(array, tuple):
        return tuple(permute(name, quantity, part, order) for part in array)
    if array.ndim in (2, 4) and array.shape[1] == len(order):
        return array[:, order]
    is_stacked = quantity in QUANTITIES and QUANTITIES[quantity].reduction == "stack"
    if is_stacked and has_samples_per_map(name):
        return array.reshape(len(array), len(order), -1)[:, order].reshape(array.shape)
    return array


@pytest.mark.parametrize("name", METHODS)
def test_channel_order_does_not_matter(name: str) -> None:
    for seed in range(10):
        taken = arguments(name, feed((2, 6, 3, 4), seed))
        order = np.random.default_rng(seed).permutation(6)
        permuted, expected = (
            join_channels(result, METHODS[name].channels) if result.ndim == 4 else result
            for result in (
                METHODS[name].formula(**values)
                for values in (
                    {key: permute(name, key, array, order) for key, array in taken.items()},
                    taken,
                )
            )
        )
        largest = np.abs(expected).max()
        np.testing.assert_allclose(permuted, expected, rtol=1e-10, atol=1e-13 * largest)


@pytest.mark.parametrize("name", METHODS)
def test_unknown_setting_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match="no setting 'nonsense'"):
        METHODS[name].resolve_settings({"nonsense": 1})


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_described(name: str) -> None:
    described = METHODS[name]
    assert described.summary.endswith((".", ";"))
    assert any(character.isdigit() for character in described.source)
    assert described.resolve_settings({}) == {
        key: setting.default for key, setting in described.settings.items()
    }
    assert all(setting.meaning for setting in described.settings.values())


# Scaling the gradient has an exact effect: multiplying by a power of two does not round


@pytest.mark.parametrize(
    ("name", "chosen", "power"),
    [
        ("grad-cam", {}, 0),
        ("cam", {}, 0),
        ("grad-cam++", {}, 0),
        ("smooth-grad-cam++", {}, 0),
        ("smooth-grad-cam++", {"numerator": "d1"}, -1),
    ],
)
@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(-9, 9), st.integers(0, 99))
def test_scaled_gradients_with_inverse_activations_scale_map(
    name: str, chosen: dict[str, Any], power: int, exponent: int, seed: int
) -> None:
    """sum(A) g does not change, so alpha and w A do not change; with d1 alpha loses a factor."""
    c = 2.0**exponent
    quantities = feed((2, 3, 3, 2), seed)
    scale = {"activation": 1 / c, "d2": c**2, "d3": c**3}
    scaled = {quantity: array * scale.get(quantity, c) for quantity, array in quantities.items()}
    expected = run(name, quantities, **chosen) * c**power
    np.testing.assert_array_equal(run(name, scaled, **chosen), expected)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(-9, 9), st.integers(0, 99))
def test_grad_cam_is_linear_in_the_gradient(exponent: int, seed: int) -> None:
    c, quantities = 2.0**exponent, feed((2, 3, 3, 2), seed)
    scaled = run("grad-cam", {**quantities, "gradient": c * quantities["gradient"]})
    np.testing.assert_array_equal(scaled, c * run("grad-cam", quantities))


def test_zero_mass_gives_alpha_of_one_half() -> None:
    activation = np.array([[[[1.0, -1.0], [3.0, -3.0]]]])
    gradient = np.array([[[[2.0, -5.0], [4.0, 0.0]]]])
    maps = run("grad-cam++", {"activation": activation, "gradient": gradient})
    np.testing.assert_allclose(maps, np.maximum(3.0 * activation[:, 0], 0), rtol=1e-15)


@pytest.mark.parametrize("name", ["grad-cam++", "smooth-grad-cam++"])
def test_negative_sum_equals_zero_mass(name: str) -> None:
    """The paper's alpha has a pole at g = -2 / sum A in this case."""
    quantities = feed((1, 3, 3, 4))
    negative, zero = quantities["activation"].copy(), quantities["activation"].copy()
    negative[:, 1] -= negative[:, 1].mean() + 0.4
    zero[:, 1] -= zero[:, 1].mean()
    results = [
        run(name, {**quantities, "activation": activation[:, [1]], **_channel(quantities, 1)})
        for activation in (negative, zero)
    ]
    weights = [
        np.max(maps / np.maximum(activation[:, 1], 1e-12) * (maps > 0))
        for maps, activation in zip(results, (negative, zero), strict=True)
    ]
    assert weights[0] > 0
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-9)


def _channel(quantities: dict[str, Floats], channel: int) -> dict[str, Floats]:
    names = ("gradient", "d1", "d2", "d3")
    return {name: quantities[name][:, [channel]] for name in names}


# The table


def test_method_with_unknown_quantity_is_not_registered() -> None:
    with pytest.raises(ValueError, match="takes hessian, which are not quantities"):
        method("impossible", source="2026")(lambda activation, hessian: activation)
    assert "impossible" not in METHODS


def test_duplicate_method_name_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        method("grad-cam", source="2017")(lambda activation: activation)


def test_methods_of_all_modules_are_registered(tmp_path: Path) -> None:
    """A module in the package is enough; nothing has to list it."""
    (tmp_path / "extra.py").write_text(
        "from onnxcam.methods.method import method\n"
        "method('extra', source='2026')(lambda activation: activation)\n"
    )
    code = (
        "import sys, importlib.util\n"
        "spec = importlib.util.find_spec('onnxcam.methods')\n"
        "spec.submodule_search_locations.append(sys.argv[1])\n"
        "package = importlib.util.module_from_spec(spec)\n"
        "sys.modules['onnxcam.methods'] = package\n"
        "spec.loader.exec_module(package)\n"
        "print(list(package.METHODS))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str([*METHODS, "extra"])
