"""From the words of a command line to the values of an explainer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from onnxcam.errors import SettingError


def method_settings(method: str, given: Sequence[str], short: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in NAME=VALUE words and those with an option of their own, checked and complete.

    Raises UnknownNameError for the method, SettingError for a setting.
    """
    from onnxcam.methods import METHODS

    found = {name: value for name, value in short.items() if value is not None}
    for word in given:
        name, equals, value = word.partition("=")
        if not (equals and name.strip()):
            raise SettingError(f"--set {word!r}: expected NAME=VALUE, like samples=50")
        if name.strip() in found:
            raise SettingError(f"--set {word!r}: {name.strip()} is given twice")
        found[name.strip()] = value.strip()
    METHODS[method].resolve_settings(found)
    return found


def score_kind(option: str, setting: str | None) -> str:
    """Of `--score` and `--set score=...`, the one that was given."""
    if setting is not None and option != "logit":
        raise SettingError(f"--score {option} and --set score={setting}: give one of them")
    return setting or option


def numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """ "0.5" or "0.485,0.456,0.406"."""
    if text is None:
        return None
    try:
        return tuple(float(each) for each in text.split(","))
    except ValueError:
        raise SettingError(
            f"{option} {text!r}: expected a number, or one a channel: 1,2,3"
        ) from None


def size(text: str | None) -> tuple[int, int] | None:
    """ "224,320" or "224x320": height and width."""
    if text is None:
        return None
    sides = re.fullmatch(r"\s*(\d+)\s*[,x]\s*(\d+)\s*", text)
    if not sides:
        raise SettingError(f"--size {text!r}: expected height,width in pixels, like 224,320")
    return int(sides[1]), int(sides[2])
