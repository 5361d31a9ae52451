"""Settings are converted to the type of the default and checked for their range."""

import re
from typing import Any

import numpy as np
import pytest

from onnxcam.errors import SettingError
from onnxcam.methods import METHODS

SMOOTH = METHODS["smooth-grad-cam++"]


def test_defaults_of_smooth_grad_cam_plus_plus() -> None:
    assert SMOOTH.resolve_settings({}) == {
        "samples": 25,
        "noise": 0.15,
        "sigma": None,
        "seed": 0,
        "activation": "clean",
        "score": "logit",
        "numerator": "d2",
    }


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("samples", "50", 50),
        ("samples", 3.0, 3),
        ("samples", np.int64(7), 7),
        ("noise", "0.25", 0.25),
        ("noise", 0, 0.0),
        ("sigma", None, None),
        ("sigma", "0.5", 0.5),
        ("sigma", 1, 1.0),
        ("seed", 2**63 - 1, 2**63 - 1),
        ("numerator", "d1", "d1"),
        ("activation", "mean", "mean"),
        ("score", "exp", "exp"),
    ],
)
def test_values_take_the_type_of_the_default(name: str, value: Any, expected: Any) -> None:
    resolved = SMOOTH.resolve_settings({name: value})[name]
    assert resolved == expected
    assert type(resolved) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("samples", value) for value in (0, -1, 2.5, "many", None, float("inf"), "", 10**7)),
        *(("noise", value) for value in (-0.1, float("nan"), float("inf"), "loud", None, [1, 2])),
        *(("sigma", value) for value in (-1, "x", float("nan"))),
        *(("seed", value) for value in (-1, 0.5, 2**63, "s")),
        *((name, "other") for name in ("numerator", "activation", "score")),
        ("numerator", None),
    ],
)
def test_invalid_value_is_named(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=f"{name}=.*: expected ") as caught:
        SMOOTH.resolve_settings({name: value})
    assert repr(value) in str(caught.value)


def test_unknown_setting_error_lists_settings() -> None:
    with pytest.raises(SettingError, match=r"'smaples'; its settings: samples, noise, sigma"):
        SMOOTH.resolve_settings({"smaples": 3})
    with pytest.raises(SettingError, match="grad-cam has no setting 'samples'; its settings: none"):
        METHODS["grad-cam"].resolve_settings({"samples": 3})


@pytest.mark.parametrize("name", sorted(SMOOTH.settings))
@pytest.mark.parametrize("method", ["cam", "grad-cam", "grad-cam++"])
def test_setting_of_other_method_names_that_method(method: str, name: str) -> None:
    with pytest.raises(
        SettingError, match=rf"{re.escape(method)} has no setting '{name}'"
    ) as caught:
        METHODS[method].resolve_settings({name: 1})
    assert f"; methods that have {name}: smooth-grad-cam++" in str(caught.value)


def test_setting_of_no_method_names_none() -> None:
    with pytest.raises(SettingError, match=r"no setting 'smaples'; its settings: none$"):
        METHODS["cam"].resolve_settings({"smaples": 1})
