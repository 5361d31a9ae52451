"""Sums of powers of gradients over the batch, computed in the graph."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnxcam.rewrite.sampled_outputs import add_moments

from onnxcam.model.load import load
from onnxcam.rewrite.gradient import gradient
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from onnxcam.specs import POWERS, SEED, moment
from tests.support.nets import CLASSES, DEEP, random_images

X = random_images(5)


@pytest.mark.parametrize("net", [DEEP], ids=["deep"])
@pytest.mark.parametrize("scale", [1.0, 1e-14])
def test_moments_are_sums_of_powers_in_float64(net: Any, scale: float) -> None:
    """In float64: the cube of a gradient of 1e-14 is 0 in float32."""
    model = gradient(load(net.content()), ["x"])
    add_moments(model.graph, ["x"])
    onnx.checker.check_model(model.proto(), full_check=True)
    session = Session(model.bytes(), Device("cpu"), threads=1)
    seed = np.random.default_rng(0).standard_normal((5, CLASSES), dtype=np.float32) * np.float32(
        scale
    )
    names = ["gradient/x", *(moment(power, "x") for power in POWERS)]
    outputs: Any = session.run(names, {"x": X, SEED: seed})
    g, *sums = outputs
    exact = np.asarray(g, np.float64)
    assert np.abs(exact).max() > 0
    for power, actual in zip(POWERS, sums, strict=True):
        assert actual.dtype == np.float64
        expected = np.sum(exact**power, axis=0, keepdims=True)
        np.testing.assert_allclose(
            actual, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max()
        )
