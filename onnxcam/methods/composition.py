"""Methods made of others: `smooth-` before a formula that takes a gradient, `guided-` before one at a layer.

A composed name is accepted wherever the name of a method is, but not listed. The same is chosen by the settings
`smooth` and `guided`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any

from onnxcam.arrays import Maps, Saliency
from onnxcam.errors import SettingError, UnknownNameError
from onnxcam.methods.method import METHODS, Formula, Method
from onnxcam.methods.postprocess import fixed_size, resize_bilinear
from onnxcam.methods.quantities import QUANTITIES, mean_of
from onnxcam.methods.samplers import SAMPLERS

GUIDE = "guided_gradient"
SMOOTHER = "gaussian"


def smooth(method: Method) -> Method:
    """The method on gradients averaged over noisy copies of the image (Smilkov et al. 2017, eq. 1).

    UnknownNameError for a method without a gradient, or with samples of its own.
    """
    if not method.needs_gradient:
        raise _not_composed("smooth", method, "it takes no gradient")
    if method.sampler.draw is not None:
        raise _not_composed("smooth", method, f"it runs {method.sampler.description}")
    taken = [name for name in method.parameters if name in QUANTITIES]
    gradients = [name for name in taken if QUANTITIES[name].needs_gradient]
    return replace(
        method,
        name=f"smooth-{method.name}",
        sampler=SAMPLERS[SMOOTHER],
        source=f"{method.source}; Smilkov et al. 2017, eq. 1",
        averages={name: mean_of(name) for name in gradients},
        report=None,  # mean gradients add up to no score
    )


def guide(method: Method) -> Method:
    """Guided backpropagation times the map of the method (Selvaraju et al. 2017, section 3.2).

    UnknownNameError for a method that is not one of a layer, or that is guided already.
    """
    if not method.has_layer or method.is_at_image:
        raise _not_composed("guided", method, "it is no map of a layer")
    return replace(
        method,
        name=f"guided-{method.name}",
        formula=guided(method.formula),
        source=f"{method.source}; Selvaraju et al. 2017, section 3.2",
        channels="largest",
        is_relative=False,
    )


def guided(formula: Formula) -> Formula:
    """The formula, times the gradient of guided backpropagation."""

    @wraps(formula)
    def guided_formula(*, guided_gradient: Maps, **arguments: Any) -> Maps:
        return guided_product(formula(**arguments), guided_gradient)

    signature = inspect.signature(formula)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = (inspect.Parameter(GUIDE, kind), *signature.parameters.values())
    guided_formula.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return guided_formula


def guided_product(saliency: Saliency, guided_gradient: Maps) -> Maps:
    """(N, C, H, W): the gradient of guided backpropagation times a map (N, h, w), brought up to its size."""
    height, width = (fixed_size(guided_gradient, axis) for axis in (2, 3))
    return guided_gradient * resize_bilinear(saliency, height, width)[:, None]


def _not_composed(prefix: str, method: Method, reason: str) -> UnknownNameError:
    return UnknownNameError(
        f"there is no {prefix}-{method.name}: {reason}; {prefix}- goes before {REQUIREMENTS[prefix]}"
    )


COMPOSE: dict[str, Callable[[Method], Method]] = {"guided": guide, "smooth": smooth}
REQUIREMENTS = {
    "guided": "methods at a layer, such as guided-grad-cam",
    "smooth": "methods that take a gradient of the image itself, such as smooth-layer-cam",
}


def derive(name: str) -> Method | None:
    """The method with a composed name; None if it has no known prefix. UnknownNameError with the reason if the
    method after the prefix cannot be composed, or is not known.
    """
    prefix, hyphen, rest = name.partition("-")
    return COMPOSE[prefix](METHODS[rest]) if hyphen and prefix in COMPOSE else None


def choose_method(name: str, settings: Mapping[str, Any]) -> tuple[Method, dict[str, Any]]:
    """The method with a name, composed as the settings `guided` and `smooth` say, and the other settings.

    UnknownNameError for the name, SettingError for a value of the two that is not true or false.
    """
    own = METHODS[name].settings
    prefixes = [prefix for prefix in COMPOSE if prefix in settings and prefix not in own]
    for prefix in prefixes:
        if _is_true(prefix, settings[prefix]):
            name = f"{prefix}-{name}"
    return METHODS[name], {key: settings[key] for key in settings if key not in prefixes}


def _is_true(name: str, value: Any) -> bool:
    text = str(value).lower()
    if text not in ("true", "false"):
        raise SettingError(f"{name}={value!r}: expected true or false")
    return text == "true"


METHODS.derive = derive
