"""LIME."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.arrays import Floats
from onnxcam.methods.samplers.segments import grid_segments
from onnxcam.methods.samplers.subsets import draw_subsets, ridge_projection
from tests.methods.support import perturbation_twins as twins
from tests.methods.support.compare import NETS, TARGET, X, assert_close, explain
from tests.methods.support.perturbation_twins import OfNet
from tests.support.layered_nets import CURVED
from tests.support.nets import ANY_SIZE, DEEP, FIXED, NHWC, POOLED, Net, random_images

FEW = 60
CELLS = 9
GRID: dict[str, Any] = {"segments": "grid", "superpixels": CELLS, "samples": FEW}


def twin_of(net: Any, x: Floats, seed: int = 0, **options: float) -> Floats:
    """Of a grid of nine cells."""
    labels = grid_segments(x.shape[1:], CELLS)
    subsets = draw_subsets(FEW, CELLS, seed).tolist()
    return twins.lime(net, x, TARGET, labels, subsets, **options)


@pytest.mark.parametrize("net", NETS)
def test_map_equals_twin_of_same_subsets(net: str) -> None:
    explanation = explain("lime", NETS[net], **GRID)
    assert_close(explanation.maps, np.stack([twin_of(NETS[net], x) for x in X]))
    assert explanation.signed
    assert explanation.maps.min() < 0 < explanation.maps.max()


@pytest.mark.parametrize(
    "options", [{"kernel_width": 0.05}, {"ridge": 1e-3}, {"kernel_width": 10.0, "ridge": 30.0}]
)
def test_kernel_and_penalty_are_those_of_twin(options: dict[str, float]) -> None:
    explanation = explain("lime", CURVED, **GRID, **options, seed=3)
    named = {"sigma": options.get("kernel_width", 0.25), "ridge": options.get("ridge", 1.0)}
    twin = [twin_of(CURVED, x, 3, **named) for x in X]
    assert_close(explanation.maps, np.stack(twin))


def test_coefficients_of_additive_score_are_its_terms() -> None:
    """Without a penalty, whatever the subsets are."""
    (projected,) = (
        onnxcam.METHODS["lime"].formula(scores, projection, np.arange(6.0).reshape(1, 2, 3))
        for scores, projection in [additive_scores(np.arange(6.0) - 2)]
    )
    np.testing.assert_allclose(projected.ravel(), np.arange(6.0) - 2, atol=1e-6)


def additive_scores(terms: Floats) -> tuple[Floats, Floats]:
    """The scores (1, n) of subsets that are 5 plus the terms of what they show, and the projection."""
    shown = draw_subsets(FEW, len(terms), 1)
    return (5 + shown @ terms)[None], ridge_projection(shown, 0.25, 1e-9)[None]


def maps_of(net: Net, images: Any) -> Any:
    return onnxcam.Explainer(net.content(), "lime", device="cpu", **GRID)(images, TARGET).maps


def test_image_with_channels_last_equals_twin() -> None:
    x = random_images(2, (8, 8, 3))
    twin = [twin_of(OfNet(NHWC), pixels) for pixels in x.transpose(0, 3, 1, 2)]
    assert_close(maps_of(NHWC, x), np.stack(twin))


def test_image_that_is_not_square_equals_twin() -> None:
    x = random_images(1, (3, 10, 14))
    labels = grid_segments((10, 14), CELLS)
    subsets = draw_subsets(FEW, int(labels.max()) + 1, 0).tolist()
    twin = twins.lime(OfNet(POOLED), x[0], TARGET, labels, subsets)
    assert_close(maps_of(ANY_SIZE, x), twin[None])


def test_fixed_batch_that_is_filled_up_gives_same_map() -> None:
    of_three = replace(FIXED, head=DEEP.head, flatten=DEEP.flatten).with_batch("3")
    assert_close(maps_of(of_three, X), maps_of(DEEP, X))


def test_contrast_is_difference_of_coefficients() -> None:
    explainer = onnxcam.Explainer(CURVED.content(), "lime", device="cpu", **GRID)
    first, second, contrast, against = (explainer(X, t).maps for t in (1, 2, "1-2", "not 1"))
    np.testing.assert_allclose(contrast, first - second, atol=1e-6)
    np.testing.assert_allclose(against, -first, atol=1e-6)
