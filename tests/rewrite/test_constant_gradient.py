"""Gradients that have a model of their own."""

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
from onnxcam.specs import SEED
from tests.support.nets import ANY_SIZE, CLASSES, DEEP, POOLED, random_images

GRAD_CAM = METHODS["grad-cam"]
SEEDS = np.random.default_rng(0).standard_normal((2, CLASSES), dtype=np.float32)


def test_the_gradient_without_a_picture() -> None:
    found, model, alone = plan(load(POOLED.content()), GRAD_CAM, "features")
    assert found.has_gradient_model
    assert alone is not None
    onnx.checker.check_model(alone.proto(), full_check=True)
    forward, backward = (Session(each.bytes(), Device("cpu")) for each in (model, alone))
    assert (forward.inputs, forward.outputs) == ({"x"}, ["logits", "features"])
    assert (backward.inputs, backward.outputs) == ({SEED}, ["gradient/features"])
    whole = Session(gradient(load(POOLED.content()), ["features"]).bytes(), Device("cpu"))
    (expected,) = whole.run(["gradient/features"], {"x": random_images(2), SEED: SEEDS})
    np.testing.assert_array_equal(backward.run(["gradient/features"], {SEED: SEEDS})[0], expected)


def test_what_takes_the_sizes_of_the_picture_stays_where_they_are_known() -> None:
    found, model, alone = plan(load(ANY_SIZE.content()), GRAD_CAM, "features")
    assert found.gradient_is_constant
    assert not found.has_gradient_model
    assert alone is None
    assert "gradient/features" in [each.name for each in model.graph.outputs]


def test_what_is_too_large_for_a_file_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxcam.rewrite.constant_gradient.MOST", 100)
    assert plan(load(POOLED.content()), GRAD_CAM, "features").gradients is None


def test_what_takes_several_pictures_at_a_time_stays() -> None:
    pair = load(replace(POOLED, shape="2, 3, 8, 8", outputs="float[2, 5] probabilities").content())
    for found, _, alone in (plan(pair, METHODS[each], "features") for each in METHODS):
        assert found.gradient_is_constant
        assert alone is None
    made = onnxcam.Explainer(pair, "smooth-grad-cam++", "features", samples=3)
    expected = onnxcam.Explainer(POOLED.content(), "smooth-grad-cam++", "features", samples=3)
    np.testing.assert_allclose(
        made(random_images(2)).maps, expected(random_images(2)).maps, rtol=1e-5
    )


def test_what_depends_on_the_picture_stays() -> None:
    found, _, alone = plan(load(DEEP.content()), GRAD_CAM, "features")
    assert not found.has_gradient_model
    assert alone is None
