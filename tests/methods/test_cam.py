"""Each formula says what its paper says: a slow twin, one cell at a time, is the witness."""

# mypy: disallow-untyped-decorators=False

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxcam.arrays import Floats, Maps, Saliency
from onnxcam.errors import SettingError
from onnxcam.methods import METHODS
from onnxcam.methods.method import QUANTITIES, method
from tests.methods.support.formulas import feed, run

SHAPES = [(1, 1, 1, 1), (2, 3, 4, 5), (1, 7, 3, 3), (3, 2, 1, 6)]
Paper = Callable[..., Any]


def cells(maps: Maps) -> list[tuple[int, int]]:
    return [(i, j) for i in range(maps.shape[2]) for j in range(maps.shape[3])]


def combined(weight: Callable[[int, int], float], activation: Maps) -> Saliency:
    """relu(sum_k w_k A_k), one cell at a time (Selvaraju et al. 2017, eq. 2)."""
    n, channels, h, w = activation.shape
    found = np.zeros((n, h, w))
    for b in range(n):
        weights = [weight(b, k) for k in range(channels)]
        for i, j in cells(activation):
            found[b, i, j] = max(
                0.0, sum(weights[k] * activation[b, k, i, j] for k in range(channels))
            )
    return found


def paper_cam(activation: Maps, class_weight: Floats) -> Saliency:
    """Zhou et al. 2016, eq. 2: M_c(x, y) = sum_k w_k^c f_k(x, y)."""
    return combined(lambda b, k: class_weight[b, k], activation)


def paper_grad_cam(activation: Maps, gradient: Maps) -> Saliency:
    """Selvaraju et al. 2017, eq. 1: alpha_k = 1/Z sum_i sum_j dy/dA_ij^k."""

    def weight(b: int, k: int) -> float:
        total = 0.0
        for i, j in cells(gradient):
            total += gradient[b, k, i, j]
        return total / len(cells(gradient))

    return combined(weight, activation)


def paper_grad_cam_plus_plus(activation: Maps, gradient: Maps) -> Saliency:
    """Chattopadhay et al. 2018, eq. 19, with the powers of g for the derivatives of exp(S) (eq. 16-18),
    and eq. 5 for the weights.
    """

    def weight(b: int, k: int) -> float:
        mass = sum(activation[b, k, i, j] for i, j in cells(activation))
        total = 0.0
        for i, j in cells(gradient):
            g = gradient[b, k, i, j]
            below = 2 * g**2 + mass * g**3
            total += (g**2 / below if below > 0 else 0.0) * max(g, 0.0)
        return total

    return combined(weight, activation)


def paper_smooth(numerator: str) -> Paper:
    def paper(activation: Maps, d1: Maps, d2: Maps, d3: Maps) -> Saliency:
        """Omeiza et al. 2019, the averaged derivatives D_p in Grad-CAM++'s alpha and weights."""

        def weight(b: int, k: int) -> float:
            mass = sum(activation[b, k, i, j] for i, j in cells(activation))
            total = 0.0
            for i, j in cells(activation):
                above = d1[b, k, i, j] if numerator == "d1" else d2[b, k, i, j]
                below = 2 * d2[b, k, i, j] + mass * d3[b, k, i, j]
                total += (above / below if below > 0 else 0.0) * max(d1[b, k, i, j], 0.0)
            return total

        return combined(weight, activation)

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
def test_says_what_the_paper_says(
    name: str, paper: Paper, chosen: dict[str, Any], shape: tuple[int, ...]
) -> None:
    for seed in range(5):
        given = feed(shape, seed)
        expected = paper(**{each: given[each] for each in METHODS[name].probes})
        np.testing.assert_allclose(run(name, given, **chosen), expected, rtol=1e-12, atol=1e-14)


def test_the_twins_see_something() -> None:
    """A comparison of zeros would say nothing."""
    given = feed((2, 3, 4, 5))
    for name in METHODS:
        assert (run(name, given) > 0).sum() > 5, name
    assert not np.allclose(
        run("smooth-grad-cam++", given), run("smooth-grad-cam++", given, numerator="d1")
    )


@pytest.mark.parametrize("numerator", ["d1", "d2"])
def test_a_denominator_that_is_not_positive_gives_no_weight(numerator: str) -> None:
    activation = np.full((1, 1, 1, 1), 2.0)
    for d2, d3 in ((1.0, -1.0), (1.0, -2.0), (0.0, 0.0)):  # 2 D_2 + 2 D_3 is 0, -2, 0
        maps = METHODS["smooth-grad-cam++"].formula(
            activation, np.ones((1, 1, 1, 1)), np.full((1, 1, 1, 1), d2), np.full((1, 1, 1, 1), d3),
            numerator=numerator,
        )  # fmt: skip
        assert maps.tolist() == [[[0.0]]]


def test_one_sample_without_noise_is_grad_cam_plus_plus() -> None:
    given = feed((2, 3, 4, 5))
    g = given["gradient"]
    once = {**given, "d1": g, "d2": g**2, "d3": g**3}
    np.testing.assert_allclose(run("smooth-grad-cam++", once), run("grad-cam++", given), rtol=1e-12)


# What holds of every method, by existing

GRADIENTS = {"gradient", "d1", "d2", "d3", "class_weight"}
numbers = st.floats(-1000, 1000, width=32, allow_subnormal=True)


@st.composite
def feeds(draw: st.DrawFn) -> dict[str, Floats]:
    shape = draw(hnp.array_shapes(min_dims=4, max_dims=4, max_side=3))
    activation = draw(hnp.arrays(np.float64, shape, elements=numbers))
    samples = draw(hnp.arrays(np.float64, (2, *shape), elements=numbers))
    return {
        "activation": activation,
        "gradient": samples[0],
        "class_weight": samples[0].sum(axis=(2, 3)),
        **{f"d{p}": np.mean(samples**p, axis=0) for p in (1, 2, 3)},
    }


def test_every_probe_is_fed() -> None:
    assert feed((1, 1, 1, 1)).keys() == QUANTITIES.keys()


@pytest.mark.parametrize("name", METHODS)
@settings(derandomize=True, deadline=None, max_examples=60)
@given(feeds())
def test_maps_are_finite_and_not_negative(name: str, given: dict[str, Floats]) -> None:
    maps = run(name, given)
    n, _, h, w = given["activation"].shape
    assert maps.shape == (n, h, w)
    assert np.isfinite(maps).all()
    assert (maps >= 0).all()


@pytest.mark.parametrize("name", [each for each in METHODS if GRADIENTS & {*METHODS[each].probes}])
def test_no_gradient_gives_no_map(name: str) -> None:
    given = feed((2, 3, 4, 5))
    given.update({each: np.zeros_like(given[each]) for each in GRADIENTS})
    assert not run(name, given).any()


@pytest.mark.parametrize("name", METHODS)
def test_pictures_of_a_batch_do_not_see_each_other(name: str) -> None:
    given = feed((3, 4, 5, 2))
    together = run(name, given)
    for i in (2, 0, 1):
        alone = run(name, {each: value[i : i + 1] for each, value in given.items()})
        np.testing.assert_array_equal(alone[0], together[i])
    turned = run(name, {each: value[::-1] for each, value in given.items()})
    np.testing.assert_array_equal(turned, together[::-1])


@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_the_channels_does_not_matter(name: str) -> None:
    for seed in range(10):
        given = feed((2, 6, 3, 4), seed)
        order = np.random.default_rng(seed).permutation(6)
        turned = run(name, {each: value[:, order] for each, value in given.items()})
        expected = run(name, given)
        np.testing.assert_allclose(turned, expected, rtol=1e-10, atol=1e-13 * expected.max())


@pytest.mark.parametrize("name", METHODS)
def test_a_setting_that_it_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match="no setting 'nonsense'"):
        METHODS[name].resolve_settings({"nonsense": 1})


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_it_is(name: str) -> None:
    recipe = METHODS[name]
    assert recipe.summary.endswith((".", ";"))
    assert any(each.isdigit() for each in recipe.source)
    assert recipe.resolve_settings({}) == {
        key: each.default for key, each in recipe.settings.items()
    }
    assert all(each.meaning for each in recipe.settings.values())


# What scaling the gradient does, exactly: a power of two costs no rounding


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
def test_gradients_that_grow_as_activations_shrink(
    name: str, chosen: dict[str, Any], power: int, exponent: int, seed: int
) -> None:
    """sum(A) g does not change, so neither does alpha, and w A stays; d1 loses a factor on the way."""
    c = 2.0**exponent
    given = feed((2, 3, 3, 2), seed)
    scale = {"activation": 1 / c, "d2": c**2, "d3": c**3}
    other = {each: value * scale.get(each, c) for each, value in given.items()}
    np.testing.assert_array_equal(run(name, other, **chosen), run(name, given, **chosen) * c**power)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(-9, 9), st.integers(0, 99))
def test_grad_cam_is_linear_in_the_gradient(exponent: int, seed: int) -> None:
    c, given = 2.0**exponent, feed((2, 3, 3, 2), seed)
    scaled = run("grad-cam", {**given, "gradient": c * given["gradient"]})
    np.testing.assert_array_equal(scaled, c * run("grad-cam", given))


def test_without_mass_every_positive_cell_counts_half() -> None:
    activation = np.array([[[[1.0, -1.0], [3.0, -3.0]]]])
    gradient = np.array([[[[2.0, -5.0], [4.0, 0.0]]]])
    maps = run("grad-cam++", {"activation": activation, "gradient": gradient})
    np.testing.assert_allclose(maps, np.maximum(3.0 * activation[:, 0], 0), rtol=1e-15)


@pytest.mark.parametrize("name", ["grad-cam++", "smooth-grad-cam++"])
def test_a_map_of_negative_sum_counts_as_one_without_mass(name: str) -> None:
    """The paper's alpha has a pole at g = -2 / sum A there."""
    given = feed((1, 3, 3, 4))
    below, without = given["activation"].copy(), given["activation"].copy()
    below[:, 1] -= below[:, 1].mean() + 0.4
    without[:, 1] -= without[:, 1].mean()
    alone = [
        run(name, {**given, "activation": each[:, [1]], **_one(given)}) for each in (below, without)
    ]
    weights = [
        np.max(maps / np.maximum(each[:, 1], 1e-12) * (maps > 0))
        for maps, each in zip(alone, (below, without), strict=True)
    ]
    assert weights[0] > 0
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-9)


def _one(given: dict[str, Floats]) -> dict[str, Floats]:
    return {each: given[each][:, [1]] for each in ("gradient", "d1", "d2", "d3")}


# The table


def test_a_method_that_asks_for_the_unknown_is_not_entered() -> None:
    with pytest.raises(ValueError, match="asks for \\['hessian'\\]"):
        method("impossible", source="2026")(lambda activation, hessian: activation)
    assert "impossible" not in METHODS


def test_a_name_is_entered_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        method("grad-cam", source="2017")(lambda activation: activation)
