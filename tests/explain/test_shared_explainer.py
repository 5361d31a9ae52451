"""One explainer in several threads: what one forgets, another may be about to use."""

from typing import Any

import numpy as np

from onnxcam import Explainer
from onnxcam.explain.sampling import MAX_REMEMBERED
from tests.support.nets import ANY_SIZE, DEEP, random_images


class Forgetful(dict[Any, Any]):
    """Loses everything at once, as if another thread had replaced it."""

    def __setitem__(self, key: Any, stored: Any) -> None:
        """Nothing is stored."""


def test_noise_that_another_thread_cleared_is_still_used() -> None:
    explainer = Explainer(DEEP.content(), "smooth-grad", samples=2)
    expected = explainer(random_images(1)).maps
    explainer._memory = Forgetful()
    np.testing.assert_array_equal(explainer(random_images(1)).maps, expected)


def test_images_of_many_sizes_leave_little_in_memory() -> None:
    explainer = Explainer(ANY_SIZE.content(), "smooth-grad", samples=2)
    for side in range(8, 8 + 2 * MAX_REMEMBERED):
        explainer(random_images(1, (3, side, side)))
    assert 0 < len(explainer._memory) <= MAX_REMEMBERED


def test_constants_of_targets_in_turn_are_those_of_each() -> None:
    """The gradient of a pooled linear head depends on the target only; one target's is kept."""
    explainer = Explainer(ANY_SIZE.content(), "grad-cam", layer="features")
    x = random_images(4)
    together = explainer(x, [1, 2, 1, 2]).maps
    alone = [explainer(x[n : n + 1], 1 + n % 2).maps for n in range(4)]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-6, atol=1e-7)
