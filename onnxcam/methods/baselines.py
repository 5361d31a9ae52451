"""The image without information that a method compares with: a setting that several methods share."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from onnxcam.arrays import Array, Floats, Maps
from onnxcam.errors import ImageError, SettingError
from onnxcam.methods.blur import blur_inside, blur_inside_by_products, describe_kernels
from onnxcam.methods.samplers.sampler import CleanRun
from onnxcam.methods.settings import Files

BLUR = 0.1  # standard deviation of the blur, as a fraction of the longer side
MAX_AXES = 4


def _mean(clean: CleanRun) -> Floats:
    return _on_pixels(clean, _mean_of_pixels)


def _mean_of_pixels(pixels: Maps) -> Maps:
    """(N, C, 1, 1): of the means of the rows, as a sum of all pixels would lose digits of float32."""
    return np.mean(np.mean(pixels, axis=3, keepdims=True), axis=2, keepdims=True)


def _blurred(clean: CleanRun) -> Floats:
    sigma = BLUR * float(max(clean.grid))
    if clean.is_written:
        kernel = clean.constant(describe_kernels([sigma]))
        return _on_pixels(clean, lambda pixels: blur_inside_by_products(pixels, kernel))
    return _on_pixels(clean, lambda pixels: blur_inside(pixels, sigma))


def _noise(clean: CleanRun) -> Floats:
    black, white = (np.asarray(clean.color(level), np.float64) for level in (0.0, 1.0))
    shares = np.random.default_rng(0).random((1, *clean.image.shape[1:]))
    return black + (white - black) * shares


BASELINES: dict[str, Callable[[CleanRun], Array]] = {
    "black": lambda clean: clean.color(0.0),
    "white": lambda clean: clean.color(1.0),
    "mean": _mean,
    "blur": _blurred,
    "noise": _noise,
}
"""Those with a name: the mean color and the blur of the image; the noise is uniform between black and white,
and the same for all images.
"""


def _on_pixels(clean: CleanRun, function: Callable[[Maps], Maps]) -> Floats:
    """What a function of (1, C, H, W) makes of the image, in the layout of the model."""
    pixels = function(clean.channels_first(clean.image))
    return np.moveaxis(pixels, 1, clean.layer.channel_axis)


def check_baseline(value: Any) -> Any:
    """A number, an array, one of `BASELINES`, or the path of an image. SettingError for anything else."""
    if isinstance(value, (str, Path)):
        return _check_text(str(value).strip())
    try:
        array = np.asarray(value)
        is_valid = array.dtype.kind in "iuf" and array.size and array.ndim <= MAX_AXES
    except ValueError:  # rows of different lengths
        is_valid = False
    if not is_valid or not np.isfinite(array).all():
        raise _expected(reprlib.repr(value))
    return float(array) if array.ndim == 0 else array.astype(np.float64)


def _check_text(text: str) -> float | str:
    if text in BASELINES:
        return text
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return number
    if text and Path(text).is_file():
        return text
    raise _expected(repr(text))


def _expected(text: str) -> SettingError:
    names = ", ".join(BASELINES)
    return SettingError(
        f"baseline={text}: expected a finite number or array in units of the preprocessed image, "
        f"one of {names}, or the path of an image"
    )


def _files(value: Any) -> list[str]:
    """The image file that a baseline names, if it is one."""
    return [value] if isinstance(value, str) and value not in BASELINES else []


Baseline = Annotated[
    Any,
    f"what the image is compared with: a number, an array, {', '.join(BASELINES)}, or an image file",
    check_baseline,
    Files(_files),
]
"""The annotation of the setting, in units of the preprocessed tensor."""


def read_baseline(clean: CleanRun, baseline: float | str | Floats) -> Floats:
    """The values (1, ...) of a baseline in the layout of the model, in float64; written into a graph, a Value
    of the shape of the image, or a float32 array (1, ...) that broadcasts to it. SettingError for an array that
    does not fit the image; one with a single axis has a number per channel.
    """
    if not isinstance(baseline, str):
        values: Array = np.asarray(baseline)
    elif baseline in BASELINES:
        values = BASELINES[baseline](clean)
    else:
        values = _read_file(clean, baseline)
    if values.ndim == 1:
        values = values.reshape([-1 if n == clean.layer.channel_axis % 4 else 1 for n in range(4)])
    if not isinstance(values, np.ndarray):
        return values
    shape = (1, *clean.image.shape[1:])
    try:
        complete = np.broadcast_to(values, shape)
    except ValueError:
        raise SettingError(
            f"baseline: its shape is {values.shape}, that of the image {shape[1:]}; expected the same, or one "
            "number per channel"
        ) from None
    return compact(values, MAX_AXES) if clean.is_written else complete.astype(np.float64)


def compact(values: Array, rank: int) -> Floats:
    """An array in float32, with axes of size 1 in front of its own."""
    return np.reshape(values, (*[1] * (rank - values.ndim), *values.shape)).astype(np.float32)


def read_baselines(clean: CleanRun, baseline: float | str | Floats) -> Floats:
    """The same for a distribution of baselines: the images of an array (n, ...), or one as above."""
    if isinstance(baseline, np.ndarray) and baseline.ndim == MAX_AXES:
        return np.concatenate([read_baseline(clean, row) for row in baseline])
    return read_baseline(clean, baseline)


def _read_file(clean: CleanRun, path: str) -> Array:
    try:
        array: Array = clean.recall(("baseline", path), lambda: clean.read_image(path))
        return array
    except ImageError as error:
        raise SettingError(f"baseline={path!r}: {error}") from error
