"""What a method asks of a model: the quantities of a plan, and the samples from which they are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from onnxcam.dense import NO_CHOICE, HeadChoice
from onnxcam.digests import digest_json
from onnxcam.explain.arguments import LayerSource, layer_names
from onnxcam.methods import QUANTITIES, Method
from onnxcam.methods.quantities import differentiates_image
from onnxcam.methods.settings import settings_to_json
from onnxcam.specs import AUTO, PlanRequest


class Demand(NamedTuple):
    """What a method asks of a model. `sampling` names its sampler and settings; empty without samples."""

    request: PlanRequest
    sampling: str

    def for_target(self, target: tuple[str, ...]) -> Demand:
        """The same for a kind of target."""
        return self._replace(request=replace(self.request, target=target))

    @property
    def kind(self) -> tuple[object, ...]:
        """What must agree for two demands to be planned together."""
        request = self.request
        quantities = [QUANTITIES[name] for name in request.quantities]
        smooths = any(q.is_sampled and q.needs_gradient for q in quantities)
        return (
            replace(request, quantities=(), varies="", single_layer=False),
            differentiates_image(request.quantities, request.at),
            smooths and AUTO in request.layers,  # then the layer may be an earlier one
        )


def make_demand(
    method: Method,
    settings: Mapping[str, Any],
    layer: LayerSource,
    output: str | None,
    score: str,
    head: HeadChoice = NO_CHOICE,
) -> tuple[dict[str, Any], Demand]:
    """All settings of a method with their values, and what it then asks of a model at a layer. SettingError for
    a setting that it does not have, or a value out of range.
    """
    weighted = {"score": "exp"} if score == "exp" else {}
    resolved = method.resolve_settings({**settings, **weighted})
    request = method.plan_request(
        layer_names(layer), output, probability=score == "probability", settings=resolved
    )
    return resolved, Demand(replace(request, head=head), sampling_key(method, resolved))


def sampling_key(method: Method, settings: Mapping[str, Any]) -> str:
    """What the samples of a method depend on besides image and target; empty if it draws none."""
    if method.sampler.draw is None:
        return ""
    replaced = {name for name, _ in method.sampler.replaces}
    drawn = settings_to_json(method.sampler_settings(settings))
    return f"{method.sampler.name} {digest_json({k: drawn[k] for k in drawn if k not in replaced})}"
