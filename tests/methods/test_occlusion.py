"""Occlusion."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.errors import SettingError
from tests.methods.support import perturbation_twins as twins
from tests.methods.support.compare import NETS, TARGET, X, assert_close, explain, stack
from tests.methods.support.perturbation_twins import OfNet
from tests.support.layered_nets import CURVED
from tests.support.nets import ANY_SIZE, DEEP, FIXED, NHWC, POOLED, Net, random_images


@pytest.mark.parametrize(("window", "stride"), [(3, 1), (3, 2), (5, 5), (2, 2)])
@pytest.mark.parametrize("net", NETS)
def test_map_equals_twin(net: str, window: int, stride: int) -> None:
    explanation = explain("occlusion", NETS[net], window=window, stride=stride)
    assert_close(explanation.maps, stack(twins.occlusion, NETS[net], window, stride))
    assert explanation.signed
    assert explanation.maps.min() < 0 < explanation.maps.max()


def test_window_of_image_size_gives_total_loss() -> None:
    explanation = explain("occlusion", CURVED, window=8)
    assert_close(explanation.maps, stack(twins.occlusion, CURVED, 8, 4))
    assert np.ptp(explanation.maps, axis=(1, 2)).max() == 0


def test_parts_are_of_side_and_window() -> None:
    explanation = explain("occlusion", CURVED, window=0.5, stride=0.5)
    assert_close(explanation.maps, stack(twins.occlusion, CURVED, 4, 2))


@pytest.mark.parametrize("baseline", [0.25, X[2]], ids=["number", "image"])
def test_baseline_fills_window(baseline: Any) -> None:
    explanation = explain("occlusion", CURVED, window=3, stride=2, baseline=baseline)
    assert_close(explanation.maps, stack(twins.occlusion, CURVED, 3, 2, baseline))


def of_net(net: Net, images: Any) -> Any:
    """Its twin's maps of images (N, C, H, W)."""
    return np.stack([twins.occlusion(OfNet(net), x, TARGET, 3, 2) for x in images])


def maps_of(net: Net, images: Any) -> Any:
    settings: dict[str, Any] = {"window": 3, "stride": 2}
    explainer = onnxcam.Explainer(net.content(), "occlusion", device="cpu", **settings)
    return explainer(images, TARGET).maps


def test_image_with_channels_last_equals_twin() -> None:
    x = random_images(2, (8, 8, 3))
    assert_close(maps_of(NHWC, x), of_net(NHWC, x.transpose(0, 3, 1, 2)))


def test_image_that_is_not_square_equals_twin() -> None:
    x = random_images(2, (3, 10, 14))
    assert_close(maps_of(ANY_SIZE, x), of_net(POOLED, x))


def test_fixed_batch_that_is_filled_up_gives_same_map() -> None:
    of_three = replace(FIXED, head=DEEP.head, flatten=DEEP.flatten).with_batch("3")
    assert_close(maps_of(of_three, X), maps_of(DEEP, X))


def test_contrast_is_difference_of_probabilities() -> None:
    explainer = onnxcam.Explainer(CURVED.content(), "occlusion", window=3, device="cpu")
    first, second, contrast, against = (explainer(X, t).maps for t in (1, 2, "1-2", "not 1"))
    np.testing.assert_allclose(contrast, first - second, atol=1e-6)
    np.testing.assert_allclose(against, -first, atol=1e-6)


def test_stride_is_at_most_the_window() -> None:
    longest, longer = (explain("occlusion", CURVED, window=3, stride=n).maps for n in (3, 100))
    np.testing.assert_array_equal(longest, longer)


def test_window_without_pixels_is_refused() -> None:
    with pytest.raises(SettingError, match=r"window=0: expected 0\.01 to 10000"):
        explain("occlusion", CURVED, window=0)
