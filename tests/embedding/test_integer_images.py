"""Samples of integer images are the same integers as in Python, also where noise ends at a half."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.embedding.support.explained import assert_close, explain, run_embedded
from tests.support.nets import DEEP

UINT8 = 2  # in ONNX
METHOD = "smooth-grad-cam++"


def integer_content() -> bytes:
    proto = replace(DEEP, lead="    floats = Cast<to = 1>(x)\n", x="floats").proto()
    proto.graph.input[0].type.tensor_type.elem_type = UINT8
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize("largest", [14, 254, 255])
def test_noisy_integers_are_those_of_python(largest: int) -> None:
    """Of 254 levels, 0.15 times the range is 38.1; times a tenth of the noise's levels, that is a half."""
    draw = np.random.default_rng(largest)
    images: Any = draw.integers(0, largest + 1, (2, 3, 8, 8)).astype(np.uint8)
    images[:, 0, 0, :2] = 0, largest
    settings: dict[str, Any] = {"samples": 4, "activation": "mean"}
    run = run_embedded(integer_content(), METHOD, images, target=1, **settings)
    assert_close(run.maps, explain(integer_content(), METHOD, images, 1, **settings), 1e-5)
