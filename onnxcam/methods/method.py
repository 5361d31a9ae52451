"""What a method is: a formula, and how the values that it asks for are sampled."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from onnxcam.errors import SettingError
from onnxcam.registry import Registry

QUANTITIES = {
    "activation": "A (N, C, h, w), the layer's values on the clean picture",
    "gradient": "g (N, C, h, w), the score's gradient at the layer",
    "d1": "D_1 (N, C, h, w), the mean of g over the noisy samples",
    "d2": "D_2 (N, C, h, w), the mean of g^2",
    "d3": "D_3 (N, C, h, w), the mean of g^3",
    "class_weight": "(N, C), the class's row of the linear layer behind global average pooling",
}


MAX_SETTING = 1e300  # of a setting: no number, and no infinity, above it


@dataclass(frozen=True)
class Setting:
    """One setting of a method: its default, what it means, and what it may be."""

    default: Any
    meaning: str
    choices: tuple[str, ...] = ()
    lowest: float = 0.0
    highest: float = float("inf")


@dataclass(frozen=True)
class Sampler:
    """On which inputs the model is run: the picture once, or noisy copies of it."""

    name: str
    settings: Mapping[str, Setting]


ONCE = Sampler("once", {})
GAUSSIAN = Sampler(
    "gaussian",
    {
        "samples": Setting(25, "noisy copies of each picture, n", (), 1, 1_000_000),
        "noise": Setting(0.15, "standard deviation, as a part of the tensor's range", (), 0, 100),
        "sigma": Setting(None, "standard deviation in the tensor's own units, instead of noise"),
        "seed": Setting(0, "of the deviates: same seed, same map", (), 0, 2**63 - 1),
        "activation": Setting("clean", "A of the picture, or the samples' mean", ("clean", "mean")),
        "score": Setting("logit", "exp weighs a sample by exp(S_s - max S)", ("logit", "exp")),
    },
)


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

    @cached_property
    def probes(self) -> tuple[str, ...]:
        """What the formula asks for."""
        return tuple(
            each.name
            for each in inspect.signature(self.formula).parameters.values()
            if each.kind is not each.KEYWORD_ONLY
        )

    @property
    def smooths(self) -> bool:
        """Whether the formula takes noisy samples."""
        return self.sampler.name == GAUSSIAN.name

    @property
    def summary(self) -> str:
        """One line on what the formula computes."""
        return (inspect.getdoc(self.formula) or "").splitlines()[0]

    @property
    def settings(self) -> dict[str, Setting]:
        """The sampler's settings and the formula's."""
        hints = get_type_hints(self.formula, include_extras=True)
        own = {
            each.name: _setting(each.default, hints[each.name])
            for each in inspect.signature(self.formula).parameters.values()
            if each.kind is each.KEYWORD_ONLY
        }
        return {**self.sampler.settings, **own}

    def resolve_settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every setting of the method with its value. SettingError for one that it does not have, or a
        value out of range.
        """
        wrong = [name for name in given if name not in self.settings]
        if wrong:
            have = ", ".join(self.settings) or "none"
            others = ", ".join(methods_with(wrong[0]))
            elsewhere = f"; methods that have it: {others}" if others else ""
            raise SettingError(
                f"{self.name} has no setting {wrong[0]!r}; its settings: {have}{elsewhere}"
            )
        checked = {name: _checked(name, given[name], self.settings[name]) for name in given}
        return {name: each.default for name, each in self.settings.items()} | checked


def _setting(default: Any, hint: Any) -> Setting:
    """The setting that a keyword-only parameter declares: Annotated[Literal["a", "b"], "its meaning"]."""
    kind, *meaning = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    return Setting(default, meaning[0] if meaning else "see the source", choices, -MAX_SETTING)


def _checked(name: str, value: Any, setting: Setting) -> Any:
    """A setting's value in the default's type and in range."""
    default = setting.default
    if setting.choices and value not in setting.choices:
        raise SettingError(f"{name}={value!r}: expected one of {', '.join(setting.choices)}")
    if value is None and default is None:
        return None
    kind = float if default is None or isinstance(default, float) else type(default)
    try:
        found = kind(value)
    except (TypeError, ValueError, OverflowError):
        like = "" if default is None else f" like {default}"
        raise SettingError(f"{name}={value!r}: expected a number{like}") from None
    if kind is int and not isinstance(value, str) and found != value:
        raise SettingError(f"{name}={value!r}: expected a whole number")
    if kind is not str and not setting.lowest <= found <= min(setting.highest, MAX_SETTING):
        highest = f" to {setting.highest}" if setting.highest < MAX_SETTING else " or more"
        raise SettingError(f"{name}={value!r}: expected {setting.lowest}{highest}")
    return found


methods: Registry[Recipe] = Registry("method")


def methods_with(setting: str) -> list[str]:
    """The methods that have a setting of this name."""
    return [name for name, recipe in methods.items() if setting in recipe.settings]


def method(
    name: str, *, source: str, sampler: Sampler = ONCE, rules: str = "default"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter the decorated formula into the table of methods."""

    def enter(formula: Callable[..., Any]) -> Callable[..., Any]:
        recipe = Recipe(name, formula, sampler, source, rules)
        unknown = set(recipe.probes) - QUANTITIES.keys()
        if unknown:
            raise ValueError(f"{name} asks for {sorted(unknown)}; known: {', '.join(QUANTITIES)}")
        methods.add(name, recipe)
        return formula

    return enter
