"""What a user should know about a model and a method, whatever the image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onnxcam.methods import Method
from onnxcam.specs import Plan
from onnxcam.targets.classes import single_logit_notice


def model_notices(
    plan: Plan, method: Method, settings: Mapping[str, Any], labels: Sequence[str] | None
) -> Iterator[str]:
    """The notices about a single score, and about samples that are all the same."""
    if method.needs_target:
        yield from _single_logit_notices(plan, labels)
    yield from _constant_gradient_notices(plan, method, settings)


def _single_logit_notices(plan: Plan, labels: Sequence[str] | None) -> Iterator[str]:
    """What is assumed about a model with a single score, unless it is known what that is."""
    notice = single_logit_notice(plan.score.classes, labels if labels is None else tuple(labels))
    if notice and not plan.names:
        yield notice


def _constant_gradient_notices(
    plan: Plan, method: Method, settings: Mapping[str, Any]
) -> Iterator[str]:
    """A notice about a method whose samples provably all give the same result."""
    sampler = method.sampler
    name, value = sampler.weighted or ("", "")
    is_weighted = name in settings and settings[name] == value
    if sampler.smooths and plan.one_sample_is_enough and not is_weighted:
        yield _constant_gradient_notice(plan)


def _constant_gradient_notice(plan: Plan) -> str:
    names = ", ".join(layer.name for layer in plan.layers)
    is_at_image = any(layer.name == plan.image.name for layer in plan.layers)
    hint = (
        "averaging has no effect, because the score is linear in the image"
        if is_at_image
        else "for averaging to have an effect, choose an earlier layer (`onnxcam layers`)"
    )
    return (
        f"the gradient at {names} does not depend on the image, so all samples give the same result, and only "
        f"one was run; {hint}"
    )
