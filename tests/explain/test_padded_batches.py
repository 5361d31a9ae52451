"""A model of a fixed batch is filled up with copies; what is averaged must not count them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from onnxcam import Explainer
from tests.support.nets import DEEP, FIXED, random_images

FOUR = replace(
    FIXED,
    head=FIXED.head.replace("[1, 96]", "[4, 96]"),
    shape="4, 3, 8, 8",
    outputs="float[4, 5] probabilities",
)


@pytest.mark.parametrize("score", ["logit", "exp"])
@pytest.mark.parametrize("samples", [1, 3, 4, 6])
def test_mean_activation_in_a_batch_that_is_filled_up_counts_each_sample_once(
    samples: int, score: str
) -> None:
    settings: dict[str, Any] = {
        "layer": "features",
        "activation": "mean",
        "samples": samples,
        "score": score,
    }
    images = random_images(3)
    padded, free = (Explainer(net.content(), cache=False, **settings) for net in (FOUR, DEEP))
    assert padded.plan.image.batch == 4
    np.testing.assert_allclose(padded(images).maps, free(images).maps, rtol=1e-5, atol=1e-7)
