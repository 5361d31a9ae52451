"""Arguments of `embed` that are wrong are refused by name, before anything is computed."""

from typing import Any

import pytest

from onnxcam.bundled import bundled_model
from onnxcam.embedding.arguments import read_outputs
from onnxcam.embedding.write import embed
from onnxcam.errors import SettingError


@pytest.mark.parametrize("name", ["batch", "rounds", "opset"])
@pytest.mark.parametrize("number", [0, -3, 2.5, "4", True])
def test_number_that_counts_nothing_is_refused(name: str, number: Any) -> None:
    with pytest.raises(SettingError, match=f"{name}={number!r}: expected an integer, 1 or more"):
        embed(bundled_model(), **{name: number})


@pytest.mark.parametrize(
    "option", [{"channels": [1]}, {"region": (0, 0, 1, 1)}, {"top_channels": 3}]
)
def test_option_that_a_file_cannot_hold_is_refused(option: dict[str, Any]) -> None:
    """Their maps were written as if the option were not there."""
    with pytest.raises(SettingError, match=f"{next(iter(option))}: cannot be embedded"):
        embed(bundled_model(), "grad-cam", **option)


def test_outputs_are_read_from_text_and_listed_once() -> None:
    assert read_outputs("saliency, overlay,saliency") == ("saliency", "overlay")
    assert read_outputs(["layer_map", "layer_map"]) == ("layer_map",)
    for wrong, message in (("", "none"), ([], "none"), ("saliency,map", "outputs map: expected")):
        with pytest.raises(SettingError, match=message):
            read_outputs(wrong)
