"""Settings of methods and samplers: defaults, ranges, and checks of values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from onnxcam.arrays import Array
from onnxcam.digests import digest_bytes
from onnxcam.errors import SettingError

FEW = 16  # numbers of an array that the manifest lists
MAX_SETTING = 1e300  # the largest magnitude of a setting; excludes infinity
LONG = 2**53  # limits from here on are not worth reading


@dataclass(frozen=True)
class Setting:
    """One setting: its default, its meaning, and its choices or range. `check`, where there is one, decides
    alone: it returns the value to use, or raises SettingError. `files` tells which files a value names.
    """

    default: Any
    meaning: str
    choices: tuple[str, ...] = ()
    lowest: float = 0.0
    highest: float = float("inf")
    check: Callable[[Any], Any] | None = None
    files: Files | None = None

    @property
    def allowed(self) -> str:
        """The values that it takes, in words; empty if only its meaning says them."""
        if self.choices:
            return ", ".join(self.choices)
        if self.check is not None or isinstance(self.default, str):
            return ""
        lowest, highest = self.limits
        if lowest is None:
            return "any number" if highest is None else f"at most {highest}"
        return f"{lowest} or more" if highest is None else f"{lowest} to {highest}"

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """The smallest and the largest number, None for no limit that anybody would reach."""
        is_number = not self.choices and self.check is None and not isinstance(self.default, str)
        return (
            self.lowest if is_number and self.lowest > -LONG else None,
            self.highest if is_number and self.highest < LONG else None,
        )


@dataclass(frozen=True)
class Files:
    """Which files a value of a setting names: results depend on their content."""

    of: Callable[[Any], Sequence[str]]


@dataclass(frozen=True)
class Range:
    """The smallest and the largest value of a setting."""

    lowest: float = -MAX_SETTING
    highest: float = float("inf")


def settings_of(formula: Callable[..., Any]) -> dict[str, Setting]:
    """The keyword-only parameters of a formula or a sampler, each with an annotation of its meaning:
    `Annotated[Literal["a", "b"], "what it chooses"] = "a"`, or `Annotated[int, "how many", Range(1, 100)] = 5`.
    """
    hints = get_type_hints(formula, include_extras=True)
    return {
        parameter.name: _from_annotation(parameter.default, hints[parameter.name])
        for parameter in inspect.signature(formula).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def require_described(owner: str, function: Callable[..., Any]) -> None:
    """ValueError for a keyword-only parameter without an annotation or a default."""
    for name, parameter in inspect.signature(function).parameters.items():
        described = parameter.annotation is not parameter.empty
        if parameter.kind is parameter.KEYWORD_ONLY and not (
            described and parameter.default is not parameter.empty
        ):
            raise ValueError(
                f"{owner}: the setting {name} needs {'a default' if described else 'an annotation'}; expected "
                f'{name}: Annotated[float, "its meaning"] = 1.0'
            )


def _from_annotation(default: Any, hint: Any) -> Setting:
    kind, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    meaning = next((note for note in notes if isinstance(note, str)), "see the source")
    interval = next((note for note in notes if isinstance(note, Range)), Range())
    check = next((note for note in notes if callable(note)), None)
    files = next((note for note in notes if isinstance(note, Files)), None)
    return Setting(default, meaning, choices, interval.lowest, interval.highest, check, files)


def settings_to_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest says about settings: of an array of more than a few numbers, the digest."""
    return {
        name: _array_to_json(value) if isinstance(value, np.ndarray) else value
        for name, value in settings.items()
    }


def _array_to_json(array: Array) -> Any:
    if array.size <= FEW:
        return array.tolist()
    digest = digest_bytes(array.tobytes())
    return {"shape": list(array.shape), "dtype": str(array.dtype), "sha256": digest}


def check_setting(name: str, value: Any, setting: Setting) -> Any:
    """The value in the type of the default. SettingError if it has another type or is out of range."""
    default = setting.default
    if setting.check is not None:
        return setting.check(value)
    if setting.choices and value not in setting.choices:
        raise SettingError(f"{name}={value!r}: expected one of {', '.join(setting.choices)}")
    if value is None and default is None:
        return None
    kind = float if default is None or isinstance(default, float) else type(default)
    try:
        converted = kind(value)
    except (TypeError, ValueError, OverflowError):
        example = "" if default is None else f" like {default}"
        raise SettingError(f"{name}={value!r}: expected a number{example}") from None
    if kind is int and not isinstance(value, str) and converted != value:
        raise SettingError(f"{name}={value!r}: expected an integer")
    if kind is not str and not setting.lowest <= converted <= min(setting.highest, MAX_SETTING):
        raise SettingError(f"{name}={value!r}: expected {setting.allowed}")
    return converted
