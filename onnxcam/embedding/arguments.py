"""Read the arguments of `embed`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnxcam.embedding.metadata import LAYER_MAP, OVERLAY, SALIENCY
from onnxcam.errors import SettingError
from onnxcam.methods import choose_method
from onnxcam.methods.embedding import embedding_refusal

OUTPUTS = (SALIENCY, OVERLAY, LAYER_MAP)
NOT_EMBEDDED = ("channels", "region", "top_channels")  # options of `Explainer`


def read_outputs(outputs: str | Sequence[str]) -> tuple[str, ...]:
    """The outputs that the explanation adds, each once. SettingError for unknown ones, or none."""
    listed = outputs.split(",") if isinstance(outputs, str) else outputs
    names = tuple(dict.fromkeys(str(name).strip() for name in listed))
    unknown = [name for name in names if name not in OUTPUTS]
    if unknown or not names:
        raise SettingError(
            f"outputs {', '.join(filter(None, unknown)) or 'none'}: expected some of {', '.join(OUTPUTS)}"
        )
    return names


def require_integers(**numbers: object) -> None:
    """SettingError for a number that is neither None nor an integer of 1 or more."""
    for name, number in numbers.items():
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise SettingError(f"{name}={number!r}: expected an integer, 1 or more")


def with_embedded(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with settings that can be embedded. SettingError for a method or an option that cannot."""
    if fixed := [name for name in NOT_EMBEDDED if options.get(name)]:
        raise SettingError(
            f"{' and '.join(fixed)}: cannot be embedded; `Explainer` takes {'them' if fixed[1:] else 'it'}"
        )
    chosen, own = choose_method(method, options)
    settings = {
        name: value
        for name, value in own.items()
        if name in chosen.settings and (name, value) != ("score", "probability")  # of any method
    }
    if reason := embedding_refusal(chosen, settings):
        raise SettingError(
            f"{chosen.name} cannot be embedded: {reason}; `onnxcam methods` marks the methods that can"
        )
    embedded = {k: v for k, v in chosen.sampler.embedded.items() if k in chosen.settings}
    return {**embedded, **options}
