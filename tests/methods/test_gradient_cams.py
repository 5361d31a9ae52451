"""XGrad-CAM, HiResCAM, and the element-wise Grad-CAM."""

import numpy as np
import pytest

from onnxcam.arrays import Floats
from tests.methods.support import cam_twins
from tests.methods.support.compare import NETS, TARGET, Twin, X, assert_close, explain
from tests.methods.support.compare_layer import (
    VITS,
    assert_layer_map_equals_twin,
    assert_token_map_equals_twin,
)
from tests.methods.support.formulas import feed, run
from tests.support.layered_nets import CURVED, LayeredNet

TWINS: dict[str, Twin] = {
    "xgrad-cam": cam_twins.xgrad_cam,
    "hires-cam": cam_twins.hires_cam,
    "elementwise-grad-cam": cam_twins.elementwise_grad_cam,
}
every_method = pytest.mark.parametrize(("method", "twin"), TWINS.items(), ids=TWINS)


@pytest.mark.parametrize("net", NETS)
@every_method
def test_map_equals_twin(method: str, twin: Twin, net: str) -> None:
    assert_layer_map_equals_twin(method, NETS[net], twin)


@pytest.mark.parametrize("vit", VITS)
@every_method
def test_map_of_tokens_equals_twin(method: str, twin: Twin, vit: str) -> None:
    assert_token_map_equals_twin(method, VITS[vit], twin)


class Part:
    """A net whose features are 0 but for two feature maps and four cells."""

    def __init__(self, net: LayeredNet) -> None:
        self.net = net
        self.mask = np.zeros(net.features(X[0]).shape)
        self.mask[np.ix_([0, 2], [1, 2], [0, 1])] = 1

    def features(self, x: Floats) -> Floats:
        self.complete = self.net.features(x)
        return self.complete * self.mask

    def head_gradient(self, features: Floats, target: int) -> Floats:
        return self.net.head_gradient(self.complete, target) * self.mask


@every_method
def test_region_and_channels_leave_only_their_terms(method: str, twin: Twin) -> None:
    explanation = explain(method, CURVED, layer="features", channels=[0, 2], region="1:3,0:2")
    expected = np.stack([twin(Part(CURVED), x, TARGET) for x in X])
    assert_close(explanation.layer_maps, expected)


def test_maps_differ_from_one_another() -> None:
    """Else a comparison with a twin could not tell the methods apart."""
    maps = [twin(CURVED, X[0], TARGET).ravel() for twin in TWINS.values()]
    correlations = np.asarray(np.corrcoef(maps))[np.triu_indices(len(maps), 1)]
    assert (correlations < 0.99).all()


def test_xgrad_cam_of_equal_gradients_is_grad_cam() -> None:
    quantities = feed((2, 3, 4, 5))
    constant = np.mean(quantities["gradient"], axis=(2, 3), keepdims=True)
    quantities["gradient"] = np.broadcast_to(constant, quantities["activation"].shape)
    expected = run("grad-cam", quantities)
    np.testing.assert_allclose(run("xgrad-cam", quantities), expected, rtol=1e-12)


@pytest.mark.parametrize("values", [[3.0, -3.0], [0.1, 0.2, -0.3], [0.0, 0.0], [1e-30, -1e-30]])
def test_xgrad_cam_ignores_feature_map_whose_values_cancel(values: list[float]) -> None:
    """Also where their sum is a rounding error, as of 0.1 + 0.2 - 0.3."""
    canceled = np.array(values).reshape(1, 1, 1, -1)
    other, gradient = np.ones_like(canceled), np.full((1, 2, 1, canceled.size), 2.0)
    gradient[..., 0] = 5
    activation = np.concatenate([canceled, other], axis=1)
    both = run("xgrad-cam", {"activation": activation, "gradient": gradient})
    alone = run("xgrad-cam", {"activation": other, "gradient": gradient[:, 1:]})
    np.testing.assert_allclose(both, alone, rtol=1e-12)


def test_xgrad_cam_counts_negative_sum() -> None:
    """w_k keeps its sign: of negative values, too, it is a weighted mean of the gradient."""
    activation, gradient = np.full((1, 1, 2, 2), -2.0), np.full((1, 1, 2, 2), -3.0)
    maps = run("xgrad-cam", {"activation": activation, "gradient": gradient})
    np.testing.assert_allclose(maps, 6.0)


def test_hires_cam_hides_what_evidence_against_outweighs() -> None:
    activation = np.ones((1, 2, 1, 2))
    gradient = np.array([[[[2.0, 2.0]], [[-3.0, -1.0]]]])
    quantities = {"activation": activation, "gradient": gradient}
    assert run("hires-cam", quantities).tolist() == [[[0.0, 1.0]]]
    assert run("elementwise-grad-cam", quantities).tolist() == [[[2.0, 2.0]]]
