"""What a file says about images whose preparation nobody describes: nothing, or a notice."""

from dataclasses import replace
from typing import Any

import pytest

from onnxcam.bundled import bundled_model
from onnxcam.embedding.write import EmbeddedModel, embed
from onnxcam.model.load import load

SILENT = replace(
    load(bundled_model()), metadata={}
)  # of a model that does not say how images are prepared
ASSUMED = "the model does not specify how images are prepared"


def written(**options: Any) -> EmbeddedModel:
    return embed(SILENT, "grad-cam", **options)


def has_notice(embedded: EmbeddedModel, text: str) -> bool:
    return any(text in notice for notice in embedded.notices)


def test_assumed_preparation_is_not_stored_as_a_fact() -> None:
    """`inspect` told the caller to subtract the means of ImageNet, which nobody had said."""
    embedded = written()
    assert embedded.explanation.preprocessing is None
    assert not has_notice(embedded, ASSUMED)
    described = embed(bundled_model(), "grad-cam").explanation.preprocessing
    assert described is not None
    assert described.scale == 255


@pytest.mark.parametrize("options", [{"outputs": "overlay"}, {"takes_pixels": True}])
def test_assumed_preparation_that_the_file_depends_on_has_a_notice(options: dict[str, Any]) -> None:
    embedded = written(**options)
    assert has_notice(embedded, ASSUMED)
    assert embedded.explanation.preprocessing is not None


def test_settings_of_pixels_that_a_file_of_tensors_does_not_apply_have_a_notice() -> None:
    text = "--mean only tells how its caller prepares it"
    settings = {"mean": (1.0,), "std": None}
    assert has_notice(written(pixels=settings), text)
    assert not has_notice(written(pixels=settings, takes_pixels=True), text)
    assert not has_notice(written(pixels={"mean": None}), text)


@pytest.mark.parametrize("options", [{"target": 3}, {"target_input": True}])
def test_target_of_a_method_without_one_has_a_notice(options: dict[str, Any]) -> None:
    """The file was said to explain top1, and its input `target` the class."""
    embedded = embed(SILENT, "eigen-cam", **options)
    assert has_notice(embedded, "eigen-cam gives the same map for every target")
    assert embedded.explanation.target == "every class"
    assert not has_notice(embed(SILENT, "eigen-cam"), "for every target")
    assert not has_notice(written(**options), "for every target")
