"""Constant gradients are moved into a second model, if it needs only the cotangent."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.methods import METHODS
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import gradient
from onnxcam.rewrite.planner import plan
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from onnxcam.specs import CONSTANT, MODEL, SEED, Output, Program
from tests.support.nets import ANY_SIZE, CLASSES, DEEP, POOLED, random_images

REQUEST = METHODS["grad-cam"].plan_request("features")
SEEDS = np.random.default_rng(0).standard_normal((2, CLASSES), dtype=np.float32)


def test_constant_gradient_needs_only_cotangent() -> None:
    planned, models = plan(load(POOLED.content()), REQUEST)
    assert planned.models == [MODEL, CONSTANT] == [*models]
    assert planned.gradient_is_constant
    assert planned.constant == Program(CONSTANT, (Output("gradient", 0, "gradient/features"),))
    onnx.checker.check_model(models[CONSTANT].proto(), full_check=True)
    forward, backward = (Session(models[name].bytes(), Device("cpu")) for name in (MODEL, CONSTANT))
    assert (forward.inputs, forward.outputs) == ({"x"}, ["logits", "features"])
    assert (backward.inputs, backward.outputs) == ({SEED}, ["gradient/features"])
    combined = Session(gradient(load(POOLED.content()), ["features"]).bytes(), Device("cpu"))
    (expected,) = combined.run(["gradient/features"], {"x": random_images(2), SEED: SEEDS})
    np.testing.assert_array_equal(backward.run(["gradient/features"], {SEED: SEEDS})[0], expected)


def test_gradient_that_depends_on_image_size_is_not_split() -> None:
    planned, models = plan(load(ANY_SIZE.content()), REQUEST)
    assert planned.gradient_is_constant
    assert planned.constant.model == MODEL
    assert [*models] == [MODEL]
    assert "gradient/features" in [tensor.name for tensor in models[MODEL].graph.outputs]


def test_gradient_with_large_weights_is_not_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxcam.rewrite.constant_gradient.MAX_BACKWARD_BYTES", 100)
    planned, models = plan(load(POOLED.content()), REQUEST)
    assert planned.gradient_is_constant
    assert [*models] == [MODEL]


def test_gradient_of_fixed_batch_is_not_split() -> None:
    pair = load(replace(POOLED, shape="2, 3, 8, 8", outputs="float[2, 5] probabilities").content())
    for planned, models in (
        plan(pair, method.plan_request("features"))
        for method in METHODS.values()
        if method.has_layer and method.needs_gradient
    ):
        assert planned.gradient_is_constant
        assert [*models] == [MODEL]
    explainer = onnxcam.Explainer(pair, "smooth-grad-cam++", "features", samples=3)
    expected = onnxcam.Explainer(POOLED.content(), "smooth-grad-cam++", "features", samples=3)
    np.testing.assert_allclose(
        explainer(random_images(2)).maps, expected(random_images(2)).maps, rtol=1e-5
    )


def test_gradient_that_depends_on_image_is_not_split() -> None:
    planned, models = plan(load(DEEP.content()), REQUEST)
    assert not planned.gradient_is_constant
    assert not planned.constant.outputs
    assert [*models] == [MODEL]
