"""What a model says under each preset, known by construction: a wrong order turns models of colors around."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

import onnxcam
from onnxcam.dense import HeadChoice
from onnxcam.errors import SettingError
from onnxcam.explain.answers import answers_request
from onnxcam.explain.preset_trial import Outcome, candidates, try_presets
from onnxcam.explain.runners import Options, open_runner
from onnxcam.image.preprocess import PRESETS, Preprocessing
from onnxcam.runtime.device import find_device
from onnxcam.specs import ImageInput, PlanRequest
from tests.explain.support.color_models import SLOPE, color_model, labels_of

RED = Image.new("RGB", (60, 40), (255, 0, 0))
GREEN = Image.new("RGB", (60, 40), (0, 255, 0))


def outcomes(
    model: onnx.ModelProto, default: Preprocessing, image: Image.Image = RED
) -> dict[str, Outcome]:
    """What the model says, by the options of the candidates."""
    options = Options(model.SerializeToString(), find_device("cpu"), {}, 1, cache=False)
    runner = open_runner(options, answers_request(PlanRequest("default", ())))
    labels = labels_of(model.graph.output[0].name)
    listed = list(try_presets(runner, labels, image, default))
    by_options = {outcome.candidate.options: outcome for outcome in listed}
    assert len(by_options) == len(listed)
    assert sum(outcome.is_default for outcome in listed) == 1
    return by_options


@pytest.mark.parametrize("kind", ["logits", "softmax"])
def test_order_of_channels_turns_the_answer_around(kind: str) -> None:
    by_options = outcomes(color_model(kind), PRESETS["imagenet"])
    assert len(by_options) == 10
    right, wrong = (
        by_options["--preprocess unit"],
        by_options["--preprocess unit --order bgr"],
    )
    assert [answer.name for answer in right.answers] == ["red", "green", "blue"]
    assert wrong.answers[0].name == "blue"
    assert right.answers[0].score == pytest.approx(SLOPE)
    probability = np.exp(SLOPE) / (np.exp(SLOPE) + 2)
    assert right.confidence == pytest.approx(probability, rel=1e-6)
    known = right.answers[0].probability
    assert known is None if kind == "logits" else known == pytest.approx(probability, rel=1e-6)
    assert by_options["--preprocess imagenet"].is_default


def test_detector_sees_the_image_in_its_proportions() -> None:
    half = Image.new("RGB", (8, 6), (255, 0, 0))
    half.paste((0, 255, 0), (4, 0, 8, 6))
    by_options = outcomes(color_model("boxes"), PRESETS["imagenet"], half)
    assert next(iter(by_options)) == "--preprocess imagenet"
    assert all("letterbox" in options for options in list(by_options)[1:])
    answers = by_options["--preprocess unit --fit letterbox"].answers
    assert {answer.name for answer in answers[:2]} == {"red", "green"}
    pixel = (3 * 4 * 1.0 + 4 * 114 / 255) / 16  # of the 4 rows of a box, one is padding
    assert answers[0].probability == pytest.approx(1 / (1 + np.exp(-SLOPE * pixel)), rel=1e-4)
    turned = by_options["--preprocess unit --order bgr --fit letterbox"].answers
    assert {answer.name for answer in turned[:2]} == {"blue", "green"}


def test_segmenter_names_its_regions() -> None:
    by_options = outcomes(color_model("pixels"), PRESETS["unit"])
    right = by_options["--preprocess unit"]
    assert [answer.name for answer in right.answers] == ["red"]
    assert right.confidence == pytest.approx(np.exp(SLOPE) / (np.exp(SLOPE) + 4), rel=1e-6)
    assert by_options["--preprocess unit --order bgr"].answers[0].name == "blue"


def test_values_of_a_regression_are_in_order_and_no_probabilities() -> None:
    model = color_model("logits")
    onnx.helper.set_model_props(model, {"task": "regression"})
    options = Options(model.SerializeToString(), find_device("cpu"), {}, 1, cache=False)
    request = PlanRequest("default", (), head=HeadChoice(task="regression"))
    runner = open_runner(options, answers_request(request))
    (default,) = (o for o in try_presets(runner, None, GREEN, PRESETS["unit"]) if o.is_default)
    assert [answer.name for answer in default.answers] == ["value 0", "value 1", "value 2"]
    assert [answer.score for answer in default.answers] == pytest.approx([0, SLOPE, 0])
    assert default.confidence is None


def test_outcome_is_the_one_of_explain() -> None:
    """For every candidate, the target, score and probability that an explainer with these options has."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    model = color_model("softmax")
    for outcome in outcomes(model, PRESETS["tf"], image).values():
        explainer = onnxcam.Explainer(
            model.SerializeToString(), "gradient-x-input", device="cpu",
            preprocess=outcome.candidate.preprocessing,
        )  # fmt: skip
        explanation = explainer(image)
        answer = outcome.answers[0]
        assert answer.name == explanation.targets[0]
        assert answer.score == pytest.approx(explanation.scores[0], rel=1e-6)
        assert explanation.probabilities is not None
        assert answer.probability == pytest.approx(explanation.probabilities[0], rel=1e-6)


def test_model_of_integers_gets_only_pixels() -> None:
    by_options = outcomes(color_model("logits", TensorProto.UINT8), PRESETS["raw"])
    assert list(by_options) == ["--preprocess raw", "--preprocess raw --order bgr"]
    assert by_options["--preprocess raw"].answers[0].score == 255 * SLOPE


def test_size_of_the_default_is_used_for_free_sizes() -> None:
    default = Preprocessing(fit="squash", size=(12, 20))
    by_options = outcomes(color_model("logits", size=None), default)
    assert by_options["--preprocess unit"].is_default
    assert {outcome.candidate.preprocessing.size for outcome in by_options.values()} == {(12, 20)}


def test_other_default_comes_first() -> None:
    default = Preprocessing(mean=(0.1, 0.2, 0.3))
    takes = ImageInput("x", "NCHW", 3, 8, 8, 1, np.dtype("float32"))
    listed = candidates(takes, default, keeps_image=False)
    assert listed[0] == ("--preprocess auto", default)
    assert len(listed) == 11
    gray = ImageInput("x", "NCHW", 1, 8, 8, 1, np.dtype("float32"))
    assert len(candidates(gray, PRESETS["imagenet"], keeps_image=False)) == 5


def test_scores_that_are_not_finite_are_reported() -> None:
    model = color_model("logits")
    model.graph.node.insert(1, helper.make_node("Log", ["floats"], ["logs"]))
    model.graph.node[2].input[0] = "logs"
    outcome = outcomes(model, PRESETS["raw"])["--preprocess raw"]
    assert outcome.answers == ()
    assert "not finite" in str(outcome.error)
    assert outcome.to_json()["error"] == outcome.error


def test_default_that_the_model_cannot_take_is_an_error() -> None:
    with pytest.raises(SettingError, match="use the preset 'raw'"):
        outcomes(color_model("logits", TensorProto.UINT8), PRESETS["imagenet"])


def test_trial_leaves_the_model_as_it_is(tmp_path: Path) -> None:
    model = onnxcam.load(color_model("softmax").SerializeToString())
    before = [tensor.name for tensor in model.graph.outputs]
    options = Options(model, find_device("cpu"), {}, 1, cache=False)
    open_runner(options, answers_request(PlanRequest("default", ())))
    assert [tensor.name for tensor in model.graph.outputs] == before
    assert len(model.graph.nodes) == 5
