"""KPCA-CAM."""

import numpy as np
import pytest

import onnxcam
from onnxcam.arrays import Floats, Maps
from onnxcam.errors import ModelError
from onnxcam.methods import METHODS
from onnxcam.methods.kpca_cam import MAX_CELLS, too_many_cells
from tests.methods.support import cam_twins
from tests.methods.support.compare import NETS
from tests.methods.support.compare_layer import (
    VITS,
    assert_layer_map_equals_twin,
    assert_map_of_part_equals_twin,
    assert_token_map_equals_twin,
)
from tests.methods.support.formulas import run
from tests.support.layered_nets import CURVED
from tests.support.nets import random_images

METHOD = "kpca-cam"


@pytest.mark.parametrize("net", NETS)
def test_map_equals_twin(net: str) -> None:
    assert_layer_map_equals_twin(METHOD, NETS[net], cam_twins.kpca_cam)


@pytest.mark.parametrize("vit", VITS)
def test_map_of_tokens_equals_twin(vit: str) -> None:
    assert_token_map_equals_twin(METHOD, VITS[vit], cam_twins.kpca_cam)


def test_map_of_part_is_that_of_a_smaller_layer() -> None:
    """The kernel is centered over the cells of the region, and C is the number of channels that count."""
    assert_map_of_part_equals_twin(METHOD, CURVED, cam_twins.kpca_cam)


def test_method_needs_neither_target_nor_gradient() -> None:
    assert not METHODS[METHOD].needs_target
    assert not METHODS[METHOD].needs_gradient


def kpca_cam(maps: Maps) -> Floats:
    """The map of feature maps (C, h, w)."""
    activation = maps[None]
    result: Floats = run(METHOD, {"activation": activation, "counted": np.ones_like(activation)})
    return result[0]


@pytest.mark.parametrize("unit", [1e-4, 1e-2, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("shape", [(3, 5, 6), (40, 3, 5), (1, 4, 4), (6, 1, 2)], ids=str)
def test_component_is_that_of_a_decomposition(shape: tuple[int, ...], unit: float) -> None:
    """From a kernel that is linear in effect to one that tells no more than signs."""
    for seed in range(5):
        maps = unit * np.random.default_rng(seed).normal(size=shape)
        expected = np.maximum(cam_twins.first_kernel_component(maps), 0)
        largest = np.abs(expected).max()
        np.testing.assert_allclose(kpca_cam(maps), expected, rtol=0, atol=1e-6 * largest)


def test_small_values_are_not_lost_in_the_kernel() -> None:
    """tanh(1 + 1e-24) is tanh(1) in float64."""
    maps = np.random.default_rng(0).normal(size=(6, 4, 5))
    np.testing.assert_allclose(kpca_cam(1e-12 * maps), 1e-6 * kpca_cam(1e-6 * maps), rtol=1e-6)


def test_largest_eigenvalue_counts_where_a_negative_one_is_larger_in_magnitude() -> None:
    """A sigmoid kernel is no product of vectors, so some of its eigenvalues are negative."""
    random = np.random.default_rng(252)
    cells = 2 * random.normal(size=(40, 5)) * (random.random((40, 1)) < 0.2)
    maps = cells.T.reshape(5, 5, 8)
    eigenvalues = np.linalg.eigvalsh(cam_twins.centered_kernel(maps))
    assert -eigenvalues[0] > 1.4 * eigenvalues[-1]
    expected = np.maximum(cam_twins.first_kernel_component(maps), 0)
    np.testing.assert_allclose(kpca_cam(maps), expected, rtol=0, atol=1e-6 * expected.max())


@pytest.mark.parametrize("value", [0.0, 0.1, -7.0])
def test_flat_maps_have_no_component(value: float) -> None:
    assert not kpca_cam(np.full((3, 4, 5), value)).any()


def test_one_cell_has_no_component() -> None:
    assert not kpca_cam(np.ones((3, 1, 1))).any()


def test_layer_of_too_many_cells_is_refused() -> None:
    """All pairs of them would need gigabytes."""
    side = int(MAX_CELLS**0.5)
    for width, reason in ((side, None), (side + 1, f"{side} x {side + 1} cells; expected at most")):
        maps = np.broadcast_to(0.0, (1, 2, side, width))
        result = too_many_cells(maps, is_constant=False)
        assert (reason is None and result is None) or (reason or "") in str(result)


def test_refusal_names_layer_and_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxcam.methods.kpca_cam.MAX_CELLS", 15)
    explainer = onnxcam.Explainer(CURVED.content(), METHOD, layer="features", device="cpu")
    with pytest.raises(ModelError, match=r"kpca-cam does not apply to 'features': .*4 x 4 cells"):
        explainer(random_images(1))
