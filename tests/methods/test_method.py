"""Methods: what is registered, what it needs, and its settings, which are checked and converted."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from onnxcam.errors import SettingError, UnknownNameError
from onnxcam.methods import METHODS, Method, method
from onnxcam.methods.settings import Range, Setting, check_setting, settings_of
from onnxcam.specs import PlanRequest

SMOOTH = METHODS["smooth-grad-cam++"]


def test_defaults_of_smooth_grad_cam_plus_plus() -> None:
    assert SMOOTH.resolve_settings({}) == {
        "samples": 25,
        "noise": 0.15,
        "sigma": None,
        "seed": 0,
        "generator": "normal",
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
@pytest.mark.parametrize("other", ["cam", "grad-cam", "grad-cam++"])
def test_setting_of_other_method_names_that_method(other: str, name: str) -> None:
    with pytest.raises(
        SettingError, match=rf"{re.escape(other)} has no setting '{name}'"
    ) as caught:
        METHODS[other].resolve_settings({name: 1})
    assert f"; methods that have {name}: smooth-grad-cam++" in str(caught.value)


def test_setting_of_no_method_names_none() -> None:
    with pytest.raises(SettingError, match=r"no setting 'smaples'; its settings: none$"):
        METHODS["cam"].resolve_settings({"smaples": 1})


# Annotations of settings


def read_color(value: Any) -> Any:
    if value not in ("black", 0.5):
        raise SettingError(f"color={value!r}: expected black or a gray level")
    return value


def annotated(
    *,
    steps: Annotated[int, "how many", Range(1, 100)] = 50,
    share: Annotated[float, "a fraction", Range(0)] = 0.5,
    how: Annotated[Literal["sum", "mean"], "what is done"] = "sum",
    color: Annotated[Any, "of the baseline", read_color] = "black",
    plain: float = 1.0,
) -> None:
    """Settings of every kind."""


def test_settings_are_read_from_annotations() -> None:
    assert settings_of(annotated) == {
        "steps": Setting(50, "how many", (), 1, 100),
        "share": Setting(0.5, "a fraction", (), 0),
        "how": Setting("sum", "what is done", ("sum", "mean"), Range().lowest),
        "color": Setting("black", "of the baseline", (), Range().lowest, check=read_color),
        "plain": Setting(1.0, "see the source", (), Range().lowest),
    }


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("steps", 1, 1),
        ("steps", "100", 100),
        ("share", 0, 0.0),
        ("share", 1e299, 1e299),
        ("plain", -1e299, -1e299),
        ("color", 0.5, 0.5),
        ("color", "black", "black"),
        ("how", "mean", "mean"),
    ],
)
def test_value_in_range_is_taken(name: str, value: Any, expected: Any) -> None:
    assert check_setting(name, value, settings_of(annotated)[name]) == expected


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", 0, "expected 1 to 100"),
        ("steps", 101, "expected 1 to 100"),
        ("share", -0.1, "expected 0 or more"),
        ("share", float("inf"), "expected 0 or more"),
        ("plain", float("nan"), "expected"),
        ("how", "product", "expected one of sum, mean"),
        ("color", "red", "expected black or a gray level"),
    ],
)
def test_value_out_of_range_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(SettingError, match=f"^{name}=.*: {message}"):
        check_setting(name, value, settings_of(annotated)[name])


# Registration


Register = Callable[..., Method]


def needs_power(activation: Any, *, power: Annotated[float, "exponent"]) -> Any:
    return activation**power


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Adds a method, which the table has during the test only."""
    monkeypatch.setattr(METHODS, "_values", dict(METHODS))

    def register_new(formula: Callable[..., Any], **options: Any) -> Method:
        method("new", source="2026", **options)(formula)
        return METHODS["new"]

    return register_new


@pytest.mark.parametrize(
    ("formula", "options", "message"),
    [
        (
            lambda activation, hessian: activation + hessian,
            {},
            "new takes hessian, which are not quantities; the quantities are: activation, gradient",
        ),
        (
            lambda d1: d1,
            {},
            "new takes d1, which are computed from samples; name a sampler: ",
        ),
        (
            lambda activation: activation,
            {"at": "corner"},
            "new: at='corner' is no place; expected one of layer, image",
        ),
        (
            lambda activation: activation,
            {"report": lambda saliency, entropy: saliency},
            "new takes entropy, which are not quantities",
        ),
        (
            lambda activation: activation,
            {"check": lambda curvature, *, is_constant: None},
            "new takes curvature, which are not quantities",
        ),
        (
            lambda baseline: baseline,
            {"sampler": "gaussian"},
            "new takes baseline, which are not quantities",
        ),
        (
            lambda activation, counted: activation * counted,
            {"at": "image"},
            "new takes counted, which are not quantities",
        ),
        (lambda activation: activation, {"sampler": "gausian"}, "did you mean gaussian"),
        (lambda activation, *, power=1.0: activation, {}, "the setting power needs an annotation"),
        (needs_power, {}, "the setting power needs a default"),
        (lambda activation: activation, {"family": "none"}, "family='none'; expected one of cam, "),
    ],
)
def test_method_that_cannot_run_is_not_registered(
    register: Register, formula: Callable[..., Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, UnknownNameError), match=re.escape(message)):
        register(formula, **options)
    assert "new" not in METHODS


def test_duplicate_method_is_refused(register: Register) -> None:
    first = register(lambda activation: activation)
    with pytest.raises(ValueError, match="method 'new' is registered twice"):
        register(lambda gradient: gradient)
    assert METHODS["new"] is first


def test_parameters_are_those_of_formula_report_and_check(register: Register) -> None:
    new = register(
        lambda activation, gradient: activation * gradient,
        report=lambda saliency, score: {"sum": saliency + score},
        check=lambda gradient, *, is_constant: None,
    )
    assert new.parameters == ("activation", "gradient", "score")


def test_counted_is_no_quantity_of_a_plan(register: Register) -> None:
    new = register(lambda activation, counted: activation * counted)
    assert new.quantities({}) == {"activation": "activation"}
    assert new.plan_request().quantities == ("activation",)


@pytest.mark.parametrize(("signed", "channels"), [(False, "largest"), (True, "sum")])
def test_channels_are_joined_as_signs_need(register: Register, signed: bool, channels: str) -> None:
    assert register(lambda gradient: gradient, at="image", signed=signed).channels == channels


# What a method needs


def test_setting_of_sampler_replaces_quantity() -> None:
    clean, mean = (SMOOTH.quantities({"activation": how}) for how in ("clean", "mean"))
    assert clean == {name: name for name in ("activation", "d1", "d2", "d3")}
    assert mean == {**clean, "activation": "mean_activation"}
    assert SMOOTH.quantities({}) == clean


def test_request_has_everything_that_a_plan_depends_on() -> None:
    request = SMOOTH.plan_request(
        ["a", "b"],
        "scores",
        probability=True,
        settings={"activation": "mean"},
        target=("element", "y"),
    )
    assert request == PlanRequest(
        rules="default",
        quantities=("activation", "d1", "d2", "d3", "mean_activation"),
        at="layer",
        varies="image",
        layers=("a", "b"),
        output="scores",
        probability=True,
        target=("element", "y"),
    )
    assert METHODS["grad-cam"].plan_request() == PlanRequest("default", ("activation", "gradient"))


def test_method_without_gradient_needs_no_rules(register: Register) -> None:
    new = register(lambda activation: activation, rules="guided")
    assert not new.needs_gradient
    assert not new.needs_target
    assert new.plan_request("y") == PlanRequest("default", ("activation",), layers=("y",))


def test_score_needs_target_but_no_gradient(register: Register) -> None:
    new = register(lambda sample_scores: sample_scores, sampler="gaussian", at="image")
    assert (new.needs_gradient, new.needs_target) == (False, True)
    assert (new.has_layer, new.has_subsets) == (False, False)


def test_settings_are_those_of_sampler_and_formula() -> None:
    resolved = SMOOTH.resolve_settings({"numerator": "d1"})
    assert SMOOTH.formula_settings(resolved) == {"numerator": "d1"}
    assert SMOOTH.sampler_settings(resolved).keys() == SMOOTH.sampler.settings.keys()


def test_family_follows_from_place_and_gradient() -> None:
    assert SMOOTH.family == "cam"
    assert METHODS["saliency"].family == METHODS["full-grad"].family == "gradient"
    assert METHODS["rise"].family == "perturbation"


def test_family_that_is_named_wins(register: Register) -> None:
    assert register(lambda activation: activation, family="attention").family == "attention"


def test_passes_are_those_of_the_default_settings() -> None:
    """And of 224 x 224 pixels."""
    names = ("grad-cam", "smooth-grad-cam++", "rise", "recipro-cam", "score-cam", "occlusion")
    assert [METHODS[name].passes for name in names] == [1, 25, 4000, None, None, 169]


def test_summary_is_the_first_line_of_the_docstring() -> None:
    assert SMOOTH.summary == "Grad-CAM++ on derivatives averaged over noisy copies of the image."
