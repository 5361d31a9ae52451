"""Parse the text of options into the settings of an explainer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from onnxcam.errors import SettingError


def method_settings(
    method: str, assignments: Sequence[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings in NAME=VALUE assignments and those with an option of their own, checked.

    Raises UnknownNameError for the method, SettingError for a setting.
    """
    from onnxcam.methods import METHODS

    settings = {name: value for name, value in options.items() if value is not None}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not (equals and name.strip()):
            raise SettingError(f"--set {assignment!r}: expected NAME=VALUE, like samples=50")
        if name.strip() in settings:
            raise SettingError(f"--set {assignment!r}: {name.strip()} is set twice")
        settings[name.strip()] = value.strip()
    METHODS[method].resolve_settings(settings)
    return settings


def score_kind(option: str, setting: str | None) -> str:
    """The score kind of `--score` or `--set score=...`. SettingError if both are set."""
    if setting is not None and option != "logit":
        raise SettingError(f"--score {option} and --set score={setting}: set only one of them")
    return setting or option


def parse_numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """The numbers in "0.5" or "0.485,0.456,0.406". SettingError for other text."""
    if text is None:
        return None
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise SettingError(
            f"{option} {text!r}: expected a number, or one per channel, like 0.485,0.456,0.406"
        ) from None


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Height and width in "224,320" or "224x320". SettingError for other text."""
    if text is None:
        return None
    sides = re.fullmatch(r"\s*(\d+)\s*[,x]\s*(\d+)\s*", text)
    if not sides:
        raise SettingError(f"--size {text!r}: expected height,width in pixels, like 224,320")
    return int(sides[1]), int(sides[2])
