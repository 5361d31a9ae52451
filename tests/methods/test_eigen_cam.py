"""Eigen-CAM, Eigen-Grad-CAM, and principal components without a decomposition."""

import numpy as np
import pytest

from onnxcam.arrays import Floats, Maps, Shape
from onnxcam.methods import METHODS
from onnxcam.methods.components import ROUNDING, deviations, first_component
from tests.methods.support import cam_twins
from tests.methods.support.compare import NETS, Twin
from tests.methods.support.compare_layer import (
    VITS,
    assert_layer_map_equals_twin,
    assert_map_of_part_equals_twin,
    assert_token_map_equals_twin,
)
from tests.methods.support.formulas import feed, run
from tests.methods.support.written import run_written
from tests.support.layered_nets import CURVED

TWINS: dict[str, Twin] = {
    "eigen-cam": cam_twins.eigen_cam,
    "eigen-grad-cam": cam_twins.eigen_grad_cam,
}
every_method = pytest.mark.parametrize(("method", "twin"), TWINS.items(), ids=TWINS)


@pytest.mark.parametrize("net", NETS)
@every_method
def test_map_equals_twin(method: str, twin: Twin, net: str) -> None:
    assert_layer_map_equals_twin(method, NETS[net], twin)


@pytest.mark.parametrize("vit", VITS)
@every_method
def test_map_of_tokens_equals_twin(method: str, twin: Twin, vit: str) -> None:
    """Without the class tokens."""
    assert_token_map_equals_twin(method, VITS[vit], twin)


@every_method
def test_map_of_part_is_that_of_a_smaller_layer(method: str, twin: Twin) -> None:
    """The means are those of the cells of the region."""
    assert_map_of_part_equals_twin(method, CURVED, twin)


def test_eigen_cam_needs_no_target() -> None:
    assert not METHODS["eigen-cam"].needs_target
    assert METHODS["eigen-grad-cam"].needs_gradient


# The component


def component(maps: Maps) -> Floats:
    return first_component(deviations(maps, np.ones_like(maps)))


@pytest.mark.parametrize(
    "shape", [(3, 5, 6), (40, 3, 5), (15, 3, 5), (1, 4, 4), (6, 1, 2)], ids=str
)
def test_component_is_that_of_a_decomposition(shape: tuple[int, ...]) -> None:
    """With fewer cells than feature maps, and with more."""
    for seed in range(20):
        maps = np.random.default_rng(seed).normal(size=(1, *shape))
        expected = cam_twins.first_component(maps[0])
        np.testing.assert_allclose(
            component(maps)[0], expected, rtol=0, atol=1e-6 * np.abs(expected).max()
        )


@pytest.mark.parametrize(
    "shape", [("N", 40, 3, 5), ("N", 3, 4, 5), ("N", 6, "h", "w"), ("N", "C", 3, 4)], ids=str
)
def test_component_is_written_into_graph_of_unknown_sizes(shape: Shape) -> None:
    """The smaller Gram matrix if it is known which one that is."""
    sizes = {"N": 2, "C": 7, "h": 5, "w": 4}
    drawn = [size if isinstance(size, int) else sizes[str(size)] for size in shape]
    maps = np.random.default_rng(0).normal(size=drawn)
    written = run_written(first_component, {"maps": maps}, shapes={"maps": shape})
    np.testing.assert_allclose(written, first_component(maps), rtol=1e-9)


@pytest.mark.parametrize("unit", [1e-200, 1e-12, 1e200])
def test_unit_of_values_does_not_matter(unit: float) -> None:
    """Squares of very small or large values are no numbers any more."""
    maps = np.random.default_rng(0).normal(size=(2, 6, 4, 5))
    np.testing.assert_allclose(component(unit * maps), unit * component(maps), rtol=1e-9)


@pytest.mark.parametrize("share", [0.99, 0.999, 1.0])
def test_nearly_equal_components_give_one_of_their_plane(share: float) -> None:
    """Two patterns of nearly the same energy: which one is first hardly matters, but noise must not be."""
    rows = np.linalg.qr(np.random.default_rng(1).normal(size=(30, 3)) - 0.1)[0].T
    rows -= rows.mean(axis=1, keepdims=True)
    patterns = np.linalg.qr(rows.T)[0].T.reshape(3, 5, 6)
    sizes = np.array([1.0, share, 0.5]).reshape(3, 1, 1)
    result = component((sizes * patterns)[None])[0]
    inside = np.einsum("hw,khw->k", result, patterns)
    assert abs(inside[2]) < 1e-9
    assert np.sum(inside[:2] ** 2) == pytest.approx(np.sum(result**2), rel=1e-9)
    assert share - 1e-9 <= np.sqrt(np.sum(result**2)) <= 1 + 1e-9


@pytest.mark.parametrize(
    "maps",
    [
        np.zeros((1, 3, 4, 5)),
        np.full((1, 3, 4, 5), 0.1),
        1000 * (1 + ROUNDING / 4 * np.random.default_rng(0).normal(size=(1, 3, 4, 5)).clip(-2, 2)),
        np.ones((1, 3, 1, 1)),
    ],
    ids=["zeros", "constant", "rounding errors", "one cell"],
)
def test_flat_maps_have_no_component(maps: Maps) -> None:
    """Not even one of rounding errors."""
    assert not component(maps).any()


def test_flat_feature_map_is_left_out() -> None:
    """Its rounding errors may be as large as the values of others."""
    random = np.random.default_rng(0)
    maps = random.normal(size=(1, 3, 4, 5))
    flat = 1e7 + random.normal(size=(1, 1, 4, 5))
    both = component(np.concatenate([flat, maps], axis=1))
    np.testing.assert_allclose(both, component(maps), rtol=1e-9)


def test_sign_correlates_with_sum_of_feature_maps() -> None:
    for seed in range(20):
        maps = np.random.default_rng(seed).normal(size=(1, 5, 4, 6))
        result, opposite = component(maps), component(-maps)
        assert np.sum(result * np.sum(maps, axis=1)) > 0
        np.testing.assert_allclose(opposite, -result, rtol=1e-9)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_highest_magnitude_is_positive_where_feature_maps_cancel(sign: float) -> None:
    """As after a normalization over the channels: the sum is the same in every cell, but for rounding."""
    pattern = np.random.default_rng(0).normal(size=(4, 5))
    pattern[1, 2] = 9
    maps = sign * np.array([1.0, -0.3, -0.7]).reshape(1, 3, 1, 1) * pattern + 0.1
    result = component(maps)[0]
    assert result[1, 2] == np.abs(result).max()


def test_eigen_grad_cam_of_opposite_gradient_is_the_opposite() -> None:
    """Evidence against a class is where evidence for it is not."""
    quantities = feed((2, 4, 5, 6))
    maps = run("eigen-grad-cam", quantities)
    opposite = run("eigen-grad-cam", {**quantities, "gradient": -quantities["gradient"]})
    assert maps.any()
    assert opposite.any()
    assert not (maps * opposite).any()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_eigen_grad_cam_marks_single_cell_with_evidence_for_the_target(sign: float) -> None:
    """As in a detector, where a box depends on one cell: if that is against the target, nothing is left."""
    quantities = feed((1, 4, 5, 6))
    quantities["activation"] = np.abs(quantities["activation"]) + 0.1
    quantities["gradient"] = np.zeros((1, 4, 5, 6))
    quantities["gradient"][0, :, 2, 3] = sign * np.array([1.0, 2.0, -0.5, 1.0])
    (saliency,) = run("eigen-grad-cam", quantities)
    assert [tuple(cell) for cell in np.argwhere(saliency)] == ([(2, 3)] if sign > 0 else [])
