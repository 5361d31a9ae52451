"""The settings of an ascent and of an inversion, with their defaults, and the descents that they make."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from onnxcam.ascent.basis import make_basis
from onnxcam.ascent.descent import Descent
from onnxcam.ascent.opened_model import open_model
from onnxcam.errors import unknown
from onnxcam.methods.settings import Range, check_setting, settings_of

LARGEST_SEED = 2**32 - 1
Steps = Annotated[int, "steps of Adam", Range(1, 1_000_000)]
Count = Annotated[int, "images of each subject, from seeds that count on", Range(1, 1024)]
Rate = Annotated[float, "size of a step", Range(1e-6, 10)]
Seed = Annotated[int, "seed of the first image", Range(0, LARGEST_SEED)]
Noise = Annotated[float, "standard deviation of what it starts from", Range(0, 10)]
BasisName = Annotated[
    Literal["fourier", "pixels"], "what is changed: waves of uncorrelated colors, or pixels"
]
Blur = Annotated[float, "pixels of a Gaussian blur after every fourth step", Range(0, 100)]
Jitter = Annotated[
    float, "largest shift of a step, as a fraction of the shorter side", Range(0, 0.5)
]
Zoom = Annotated[float, "largest enlargement or reduction of a step, as a fraction", Range(0, 0.5)]
Norm = Annotated[float, "weight of the mean of |x|^power", Range(0)]
Variation = Annotated[float, "weight of the total variation", Range(0)]
Beta = Annotated[float, "power of the length of differences in the total variation", Range(1, 4)]


def maximization(
    size: tuple[int, int],
    channels: int,
    subjects: int,
    *,
    count: Count = 4,
    steps: Steps = 256,
    seed: Seed = 0,
    noise: Noise = 0.02,
    basis: BasisName = "fourier",
    rate: Rate = 0.03,
    decay: Annotated[float, "weight of L2 decay, the mean of x^2", Range(0)] = 0.05,
    variation: Variation = 0.2,
    beta: Beta = 2.0,
    blur: Blur = 0.0,
    jitter: Jitter = 0.06,
    zoom: Zoom = 0.1,
) -> Descent:
    """Of an ascent: what keeps a maximum from being noise is the basis, and that the image is moved."""
    return Descent(
        make_basis(basis, channels, size),
        tuple(range(seed, seed + count)) * subjects,
        steps,
        noise,
        rate,
        norm=decay,
        variation=variation,
        beta=beta,
        blur=blur,
        jitter=round(jitter * min(size)),
        zoom=zoom,
    )


def reconstruction(
    size: tuple[int, int],
    channels: int,
    *,
    steps: Steps = 256,
    seed: Seed = 0,
    noise: Noise = 0.02,
    basis: BasisName = "pixels",
    rate: Rate = 0.05,
    slowing: Annotated[
        float, "steps after which a step is half as large; 0: never", Range(0)
    ] = 100.0,
    norm: Norm = 0.003,
    power: Annotated[float, "of the norm", Range(1, 12)] = 6.0,
    variation: Variation = 0.05,
    beta: Beta = 2.0,
    blur: Blur = 0.0,
) -> Descent:
    """Of an inversion (Mahendran and Vedaldi 2015): the penalties are those of natural images."""
    return Descent(
        make_basis(basis, channels, size),
        (seed,),
        steps,
        noise,
        rate,
        slowing=slowing,
        norm=norm,
        power=power,
        variation=variation,
        beta=beta,
        blur=blur,
    )


def split_arguments(
    recipe: Callable[..., Descent], arguments: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of `open_model`, and all settings of a recipe; see `resolve`."""
    options = {name for name in inspect.signature(open_model).parameters if name != "model"}
    settings = {name: value for name, value in arguments.items() if name not in options}
    return {k: v for k, v in arguments.items() if k in options}, resolve(recipe, settings)


def resolve(recipe: Callable[..., Descent], settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a recipe with their values. UnknownNameError for one that it does not have, SettingError
    for a value out of range.
    """
    available = settings_of(recipe)
    for name in settings:
        if name not in available:
            raise unknown("setting", name, available, f"known: {', '.join(available)}")
    defaults = {name: setting.default for name, setting in available.items()}
    return defaults | {
        name: check_setting(name, value, available[name])
        for name, value in settings.items()
        if value is not None
    }
