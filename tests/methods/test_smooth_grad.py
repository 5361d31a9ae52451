"""`smooth-grad` is the mean of gradients at noisy copies of the image."""

import numpy as np
import pytest

from onnxcam.arrays import Floats
from onnxcam.errors import SettingError
from onnxcam.methods import METHODS
from tests.explain.support.explained import noisy
from tests.methods.support import image_twins
from tests.methods.support.compare import NETS, assert_attributions, assert_close, explain, stack
from tests.support.layered_nets import LayeredNet


def twin(
    net: LayeredNet, x: Floats, target: int, noise: float = 0.15, samples: int = 25, seed: int = 0
) -> Floats:
    """With the noise that the method draws."""
    copies = noisy(x, noise * (x.max() - x.min()), samples, seed)
    return image_twins.smooth_grad(net, [*copies], target)


@pytest.mark.parametrize("net", NETS)
def test_smooth_grad_equals_twin(net: str) -> None:
    assert_attributions(explain("smooth-grad", NETS[net]), stack(twin, NETS[net]))
    other = explain("smooth-grad", NETS[net], noise=0.3, samples=7, seed=4)
    assert_close(other.attributions, stack(twin, NETS[net], 0.3, 7, 4))


def test_smooth_grad_without_noise_is_saliency() -> None:
    actual = explain("smooth-grad", NETS["curved"], noise=0.0, samples=3)
    expected = explain("saliency", NETS["curved"])
    np.testing.assert_allclose(actual.maps, expected.maps, rtol=1e-6)


def test_exponential_weights_samples_by_their_score() -> None:
    net = NETS["curved"]

    def weighted(net: LayeredNet, x: Floats, target: int) -> Floats:
        copies = noisy(x, 0.15 * (x.max() - x.min()), 25, 0)
        scores = np.array([net.logits(copy)[target] for copy in copies])
        weights = np.exp(scores - scores.max())
        gradients = [w * net.gradient(c, target) for w, c in zip(weights, copies, strict=True)]
        return np.asarray(np.mean(gradients, axis=0))

    actual = explain("smooth-grad", net, score="exp").attributions
    assert_close(actual, stack(weighted, net))


def test_activation_is_no_setting_of_smooth_grad() -> None:
    assert "activation" not in METHODS["smooth-grad"].settings
    with pytest.raises(SettingError, match="methods that have activation: smooth-grad-cam"):
        METHODS["smooth-grad"].resolve_settings({"activation": "mean"})
