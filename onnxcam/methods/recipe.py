"""What a method is: a formula, and how the values that it asks for are sampled."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from onnxcam.errors import SettingError
from onnxcam.table import Table

PROBES = {
    "activation": "A (N, C, h, w), the layer's values on the clean picture",
    "gradient": "g (N, C, h, w), the score's gradient at the layer",
    "d1": "D_1 (N, C, h, w), the mean of g over the noisy samples",
    "d2": "D_2 (N, C, h, w), the mean of g^2",
    "d3": "D_3 (N, C, h, w), the mean of g^3",
    "class_weight": "(N, C), the class's row of the linear layer behind global average pooling",
}


@dataclass(frozen=True)
class Setting:
    """One setting of a method: its default and what it means."""

    default: Any
    meaning: str


@dataclass(frozen=True)
class Sampler:
    """On which inputs the model is run: the picture once, or noisy copies of it."""

    name: str
    settings: Mapping[str, Setting]


ONCE = Sampler("once", {})
GAUSSIAN = Sampler(
    "gaussian",
    {
        "samples": Setting(25, "noisy copies of each picture, n"),
        "noise": Setting(0.15, "standard deviation, as a part of the tensor's range (max - min)"),
        "sigma": Setting(None, "standard deviation in the tensor's own units, instead of noise"),
        "seed": Setting(0, "of the deviates: same seed, same map"),
        "activation": Setting(
            "clean", "A on the clean picture, or the mean over the samples: clean, mean"
        ),
        "score": Setting("logit", "logit, or exp: samples weighed by exp(S_s - max S)"),
    },
)
CHOICES = {"activation": ("clean", "mean"), "score": ("logit", "exp"), "numerator": ("d2", "d1")}


@dataclass(frozen=True)
class Recipe:
    """A method. The formula's positional parameters say what is probed (`PROBES`), its keyword-only ones
    are its settings.
    """

    name: str
    formula: Callable[..., Any]
    sampler: Sampler
    source: str
    rules: str = "default"

    @property
    def probes(self) -> tuple[str, ...]:
        """What the formula asks for."""
        return tuple(
            each.name
            for each in inspect.signature(self.formula).parameters.values()
            if each.kind is not each.KEYWORD_ONLY
        )

    @property
    def summary(self) -> str:
        """One line on what the formula computes."""
        return (inspect.getdoc(self.formula) or "").splitlines()[0]

    @property
    def settings(self) -> dict[str, Setting]:
        """The sampler's settings and the formula's."""
        own = {
            each.name: Setting(each.default, f"of the formula; see {self.source}")
            for each in inspect.signature(self.formula).parameters.values()
            if each.kind is each.KEYWORD_ONLY
        }
        return {**self.sampler.settings, **own}

    def settled(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every setting of the method with its value. SettingError for one that it does not have, or a
        value out of range.
        """
        wrong = [name for name in given if name not in self.settings]
        if wrong:
            have = ", ".join(self.settings) or "none"
            raise SettingError(f"{self.name} has no setting {wrong[0]!r}; its settings: {have}")
        settled = {name: each.default for name, each in self.settings.items()}
        for name, value in given.items():
            settled[name] = _checked(name, value, settled[name])
        return settled


def _checked(name: str, value: Any, default: Any) -> Any:
    """A setting's value in the default's type and in range."""
    if name in CHOICES and value not in CHOICES[name]:
        raise SettingError(f"{name}={value!r}: expected one of {', '.join(CHOICES[name])}")
    kind = float if default is None or isinstance(default, float) else type(default)
    try:
        found = None if value is None and default is None else kind(value)
    except (TypeError, ValueError, OverflowError):
        like = "" if default is None else f" like {default}"
        raise SettingError(f"{name}={value!r}: expected a number{like}") from None
    if kind is int and not isinstance(value, str) and found != value:
        raise SettingError(f"{name}={value!r}: expected a whole number")
    if name in RANGES and found is not None and not RANGES[name][0] <= found <= RANGES[name][1]:
        raise SettingError(f"{name}={value!r}: expected {RANGES[name][0]} to {RANGES[name][1]}")
    return found


RANGES = {"samples": (1, 1_000_000), "noise": (0, 100), "sigma": (0, 1e9), "seed": (0, 2**63 - 1)}

methods: Table[Recipe] = Table("method")


def method(
    name: str, *, source: str, sampler: Sampler = ONCE, rules: str = "default"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter the decorated formula into the table of methods."""

    def enter(formula: Callable[..., Any]) -> Callable[..., Any]:
        recipe = Recipe(name, formula, sampler, source, rules)
        unknown = set(recipe.probes) - PROBES.keys()
        if unknown:
            raise ValueError(f"{name} asks for {sorted(unknown)}; known: {', '.join(PROBES)}")
        methods.add(name, recipe)
        return formula

    return enter
