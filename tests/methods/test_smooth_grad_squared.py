"""`smooth-grad-squared` is the mean of squared gradients at noisy copies of the image."""

import numpy as np
import pytest

import onnxcam
from onnxcam.arrays import Floats
from tests.explain.support.explained import noisy
from tests.methods.support import image_twins
from tests.methods.support.compare import NETS, TARGET, X, assert_close, explain, stack
from tests.support.layered_nets import CURVED, LayeredNet, Linear
from tests.support.nets import DEEP

NAME = "smooth-grad-squared"


def twin(
    net: LayeredNet, x: Floats, target: int, noise: float = 0.15, samples: int = 25, seed: int = 0
) -> Floats:
    """With the noise that the method draws."""
    copies = noisy(x, noise * (x.max() - x.min()), samples, seed)
    return image_twins.smooth_grad_squared(net, [*copies], target)


@pytest.mark.parametrize("net", NETS)
def test_smooth_grad_squared_equals_twin(net: str) -> None:
    explanation, expected = explain(NAME, NETS[net]), stack(twin, NETS[net])
    assert_close(explanation.attributions, expected)
    assert_close(explanation.maps, np.stack([image_twins.total(squares) for squares in expected]))
    other = explain(NAME, NETS[net], noise=0.3, samples=7, seed=4)
    assert_close(other.attributions, stack(twin, NETS[net], 0.3, 7, 4))


def test_gradients_of_changing_sign_do_not_cancel() -> None:
    mean = np.square(np.asarray(explain("smooth-grad", CURVED, noise=1.0).attributions))
    squares = np.asarray(explain(NAME, CURVED, noise=1.0).attributions)
    assert (squares >= mean * (1 - 1e-5)).all()
    assert (squares > 10 * mean).any()


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_map_of_any_unit_is_evidence(scale: float) -> None:
    """Its square is compared with nothing that is not squared."""
    last = CURVED.layers["logits"]
    assert isinstance(last, Linear)
    layers = {**CURVED.layers, "logits": Linear(last.weight * scale, last.bias * scale)}
    actual = explain(NAME, LayeredNet(layers), samples=3)
    assert not actual.notices
    assert_close(actual.maps / scale**2, np.asarray(explain(NAME, CURVED, samples=3).maps))


def test_progress_counts_samples() -> None:
    explainer = onnxcam.Explainer(DEEP.content(), NAME, device="cpu", cache=False, samples=7)
    counts: list[int] = []
    explainer(X, TARGET, progress=counts.append)
    assert sum(counts) == len(X) * 7
