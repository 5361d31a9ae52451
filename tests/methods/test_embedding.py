"""Which maps can be embedded in a model, and the reasons of those that cannot."""

import pytest

from onnxcam.errors import SettingError
from onnxcam.methods import METHODS, SAMPLERS
from onnxcam.methods.embedding import embedded_settings, embedding_refusal
from tests.methods.samplers.test_samples_on_values import CASES

ON_VALUES = {name for name, _ in CASES} | {"once"}
REFUSED = {
    "ablation-cam": "it runs the model for every feature map that is not 0",
    "guided-ig": "every point of its path depends on the gradient at the point before",
    "is-cam": "its masks are made from the activations",
    "lime": "its segments are looked for in the image",
    "prediction-difference": "what it draws in a window depends on the pixels",
    "score-cam": "its masks are made from the activations",
    "ss-cam": "its masks are made from the activations",
}


@pytest.mark.parametrize("name", METHODS)
def test_method_is_refused_with_a_reason_or_drawn_on_values(name: str) -> None:
    """`test_samples_on_values.py` compares the samples that are drawn on Values."""
    refusal = embedding_refusal(METHODS[name])
    if name in REFUSED:
        assert refusal is not None
        assert refusal.startswith(REFUSED[name])
    else:
        assert refusal is None
        assert METHODS[name].sampler.name in ON_VALUES


@pytest.mark.parametrize("name", SAMPLERS)
def test_reasons_complete_a_sentence(name: str) -> None:
    row = SAMPLERS[name]
    for reason in (row.not_embeddable, *row.not_embeddable_with.values()):
        assert reason == "" or (reason[0].islower() and not reason.endswith("."))


@pytest.mark.parametrize("name", SAMPLERS)
def test_settings_that_are_embedded_are_settings_of_the_sampler(name: str) -> None:
    row = SAMPLERS[name]
    chosen = {*row.embedded.items(), *row.not_embeddable_with}
    assert all(value in row.settings[setting].choices for setting, value in chosen)
    assert not {*row.embedded.items()} & {*row.not_embeddable_with}


@pytest.mark.parametrize("name", ["smooth-grad-cam++", "smooth-layer-cam", "var-grad"])
def test_noise_is_embedded_as_a_tile_unless_another_is_chosen(name: str) -> None:
    method = METHODS[name]
    assert embedded_settings(method, {"samples": 7})["generator"] == "tile"
    refusal = embedding_refusal(method, {"generator": "normal"})
    assert refusal is not None
    assert refusal.startswith("with generator=normal, independent noise of all samples would")
    assert "use generator=tile" in refusal
    assert (
        embedding_refusal(method, {"samples": 7, "activation": "mean"} if "cam" in name else {})
        is None
    )


def test_weights_that_depend_on_all_scores_are_refused() -> None:
    refusal = embedding_refusal(METHODS["smooth-grad-cam++"], {"score": "exp"})
    assert refusal == "with score=exp, the weight of a sample depends on the scores of all of them"


def test_unknown_setting_is_an_error() -> None:
    with pytest.raises(SettingError, match="grad-cam has no setting 'samples'"):
        embedding_refusal(METHODS["grad-cam"], {"samples": 3})
