"""What a method is: a formula, the quantities it takes, and how the model's inputs are sampled."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from onnxcam.errors import SettingError
from onnxcam.methods.samplers.once import ONCE
from onnxcam.methods.samplers.sampler import Sampler
from onnxcam.methods.settings import Setting, check_setting, formula_settings
from onnxcam.registry import Registry
from onnxcam.specs import PlanRequest

QUANTITIES = {
    "activation": "A (N, C, h, w), the layer's values on the clean image",
    "gradient": "g (N, C, h, w), the score's gradient at the layer",
    "d1": "D_1 (N, C, h, w), the mean of g over the noisy samples",
    "d2": "D_2 (N, C, h, w), the mean of g^2",
    "d3": "D_3 (N, C, h, w), the mean of g^3",
    "class_weight": "(N, C), the class's row of the linear layer after global average pooling",
}


@dataclass(frozen=True)
class Method:
    """A method. The formula's positional parameters name the quantities it takes (see `QUANTITIES`); its
    keyword-only parameters are its settings. `rules` names the table of gradient rules.
    """

    name: str
    formula: Callable[..., Any]
    sampler: Sampler
    source: str
    rules: str = "default"

    @cached_property
    def quantities(self) -> tuple[str, ...]:
        """The names of the quantities that the formula takes."""
        return tuple(
            parameter.name
            for parameter in inspect.signature(self.formula).parameters.values()
            if parameter.kind is not parameter.KEYWORD_ONLY
        )

    @property
    def smooths(self) -> bool:
        """Whether the method averages over noisy samples."""
        return self.sampler.smooths

    @property
    def summary(self) -> str:
        """One line on what the formula computes."""
        return (inspect.getdoc(self.formula) or "").splitlines()[0]

    @property
    def settings(self) -> dict[str, Setting]:
        """The settings of the sampler and of the formula."""
        return {**self.sampler.settings, **formula_settings(self.formula)}

    def plan_request(
        self,
        layers: str | Sequence[str],
        output: str | None = None,
        *,
        probability: bool = False,
    ) -> PlanRequest:
        """What a plan for this method at a layer, or at several, depends on."""
        names = (layers,) if isinstance(layers, str) else tuple(layers)
        return PlanRequest(self.rules, self.smooths, names, output, probability)

    def resolve_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """All settings of the method with their values. SettingError for a setting that the method does not
        have, or for a value out of range.
        """
        available = self.settings
        unknown = [name for name in settings if name not in available]
        if unknown:
            listed = ", ".join(available) or "none"
            elsewhere = ", ".join(methods_with(unknown[0]))
            hint = f"; methods that have {unknown[0]}: {elsewhere}" if elsewhere else ""
            raise SettingError(
                f"{self.name} has no setting {unknown[0]!r}; its settings: {listed}{hint}"
            )
        defaults = {name: setting.default for name, setting in available.items()}
        return defaults | {
            name: check_setting(name, value, available[name]) for name, value in settings.items()
        }


methods: Registry[Method] = Registry("method")


def methods_with(setting: str) -> list[str]:
    """The names of the methods that have this setting."""
    return [name for name, method in methods.items() if setting in method.settings]


def method(
    name: str, *, source: str, sampler: Sampler = ONCE, rules: str = "default"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that adds a formula to the table of methods."""

    def register(formula: Callable[..., Any]) -> Callable[..., Any]:
        registered = Method(name, formula, sampler, source, rules)
        unknown = set(registered.quantities) - QUANTITIES.keys()
        if unknown:
            raise ValueError(
                f"{name} takes {sorted(unknown)}, which are not quantities; the quantities are: "
                f"{', '.join(QUANTITIES)}"
            )
        methods.add(name, registered)
        return formula

    return register
