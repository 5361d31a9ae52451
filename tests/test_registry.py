"""Registries and the errors for unknown names."""

import pytest

from onnxcam.errors import UnknownNameError, unknown
from onnxcam.registry import Registry


def test_registry_refuses_duplicates_and_suggests_close_names() -> None:
    colors: Registry[int] = Registry("color")
    assert colors.add("ember", 1) == 1
    with pytest.raises(ValueError, match="color 'ember' is registered twice"):
        colors.add("ember", 2)
    assert dict(colors) == {"ember": 1}
    assert len(colors) == 1
    assert "ember" in colors
    assert "amber" not in colors
    with pytest.raises(UnknownNameError, match="no color 'embre'; did you mean ember"):
        colors["embre"]
    with pytest.raises(UnknownNameError, match="no color 'xyz'; known: ember"):
        colors["xyz"]


def test_unknown_name_error_has_name_known_and_close_names() -> None:
    error = unknown("layer", "convl", ["conv1", "conv2", "relu"], "see the list")
    assert (error.name, error.known) == ("convl", ["conv1", "conv2", "relu"])
    assert error.close == ["conv2", "conv1"]
    assert str(error) == "no layer 'convl'; did you mean conv2 or conv1?"
    assert unknown("layer", "xyz", ["conv1"], "see the list").close == []
    assert str(unknown("label", "cat", ["heart"], "see the list")) == "no label 'cat'; see the list"
