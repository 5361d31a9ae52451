"""Targets that are no classes: their expressions become the score of the model."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.errors import ModelError, NeedsOpsetError, UnknownNameError
from onnxcam.graph import anp
from onnxcam.methods import METHODS
from onnxcam.model.load import load
from onnxcam.rewrite.planner import plan
from onnxcam.rewrite.target_scores import add_target_scores
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from onnxcam.specs import Score
from onnxcam.targets import TARGETS, target_kind
from onnxcam.targets.target import Target
from tests.support.nets import ANY_SIZE, DEEP, random_images

X = random_images(3)


def outputs(model: onnxcam.Model) -> list[str]:
    return [tensor.name for tensor in model.graph.outputs]


def test_tensor_becomes_the_score() -> None:
    model = load(DEEP.content())
    changed, score = add_target_scores(model, ("element", "features"))
    assert score == Score("features", "features", None, 6 * 4 * 4)
    assert outputs(changed) == ["probabilities", "features"]
    assert outputs(model) == ["probabilities"]
    onnx.checker.check_model(changed.proto(), full_check=True)


def test_tensor_that_is_an_output_is_returned_once() -> None:
    changed, score = add_target_scores(load(DEEP.content()), ("element", "probabilities"))
    assert (outputs(changed), score.classes) == (["probabilities"], 5)


def test_expression_is_written_into_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TARGETS, "_values", dict(TARGETS))

    @target_kind("energy", "energy of (?P<tensor>.+)", lambda _match, _shape: any_target())
    def energy(tensors: Mapping[str, Any], tensor: str) -> Any:
        """Half the sum of squares."""
        values = tensors[tensor]
        return anp.sum(values * values, axis=(1, 2, 3)) * 0.5

    assert energy.__doc__
    changed, score = add_target_scores(load(DEEP.content()), ("energy", "features"))
    assert score.classes == 1
    session = Session(changed.bytes(), Device("cpu"), threads=1)
    actual: Any = session.run([score.output], {"x": X})[0]
    expected = 0.5 * np.sum(DEEP.features(X) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def any_target() -> Target:
    return Target("any", np.ones(1), 0, "any")


def test_expression_may_need_a_newer_opset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TARGETS, "_values", dict(TARGETS))
    opsets = []

    @target_kind("new", "new", lambda _match, _shape: any_target())
    def new(tensors: Mapping[str, Any]) -> Any:
        """The logits, at opset 15 or later."""
        logits = tensors["logits"]
        opsets.append(logits.build.opset)
        if logits.build.opset < 15:
            raise NeedsOpsetError("Test", 15)
        return logits * 2.0

    changed, _ = add_target_scores(load(DEEP.proto(opset=13)), ("new",))
    assert opsets == [13, changed.opset]
    assert changed.opset >= 15
    assert new.__doc__


def test_unknown_tensor_suggests_close_name() -> None:
    with pytest.raises(UnknownNameError, match="features"):
        add_target_scores(load(DEEP.content()), ("element", "feature"))


def test_tensor_without_fixed_sizes_is_refused() -> None:
    with pytest.raises(ModelError, match=r"target 'element': 'features' has the shape .* expected"):
        add_target_scores(load(ANY_SIZE.content()), ("element", "features"))


def test_tensor_of_integers_is_refused() -> None:
    net = replace(
        DEEP,
        head=DEEP.head + "\n    best = ArgMax<axis = 1, keepdims = 1>(logits)",
        outputs="int64[N, 1] best, float[N, 5] probabilities",
    )
    with pytest.raises(ModelError, match=r"'best' has the shape .* int64; expected floats"):
        add_target_scores(load(net.content()), ("element", "best"))


def test_plan_of_target_explains_its_tensor() -> None:
    request = METHODS["grad-cam"].plan_request("early", target=("element", "features"))
    planned = plan(load(DEEP.content()), request).plan
    assert planned.explained_tensor == "features"
    assert planned.target == ("element", "features")
    assert planned.seed_shape == (6, 4, 4)
