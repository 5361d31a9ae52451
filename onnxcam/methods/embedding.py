"""Which explanations can be embedded in a model: those whose samples can be drawn in its graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxcam.methods.method import Method


def embedded_settings(method: Method, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of an embedded explanation by a method, of which these are chosen. The others have their
    defaults, or a value that can be embedded where the default cannot. SettingError for an invalid one.
    """
    return method.resolve_settings({**method.sampler.embedded, **settings})


def embedding_refusal(method: Method, settings: Mapping[str, Any] | None = None) -> str | None:
    """Why an explanation by a method with the chosen settings cannot be embedded in a model; None if it can.
    Formulas never prevent it, as all of them run on graph Values. SettingError for an invalid setting.
    """
    sampler = method.sampler
    values = embedded_settings(method, settings or {})
    refused = (
        f"with {name}={value}, {reason}"
        for (name, value), reason in sampler.not_embeddable_with.items()
        if values.get(name) == value
    )
    return sampler.not_embeddable or next(refused, None)
