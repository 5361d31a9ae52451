"""Preprocessing: turn an image into the tensor that a model expects."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxcam.arrays import Array, Floats, cast_saturating
from onnxcam.errors import SettingError
from onnxcam.image.read import read
from onnxcam.registry import Registry
from onnxcam.specs import ImageInput

Order = Literal["rgb", "bgr"]
Fit = Literal["crop", "squash"]
Box = tuple[float, float, float, float]  # left, top, right, bottom

LARGEST_SIDE = 16384
_DEFAULT_SIDE = 224
_FEWEST_LEVELS = 16
_RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Preprocessing:
    """How pixels (0 to 255) become what a model was trained on: (pixels / scale - mean) / std.

    Args:
        scale: The divisor of the pixels; above 0.
        mean: One number, or one per channel in the model's own channel order.
        std: Likewise; above 0.
        order: "rgb" or "bgr": the order of the model's channels.
        fit: "crop" brings the short side to size / crop_ratio and takes the center; "squash"
            stretches the full image to the size.
        size: (height, width) in pixels, 1 to 16384; None: the model's own, else 224 x 224.
        crop_ratio: The share of the short side that "crop" keeps, above 0 and at most 1.
        resample: "bilinear" or "bicubic", both with the antialiasing of Pillow.

    Raises:
        SettingError: Values out of range; all of them are named at once.
    """

    scale: float = 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    order: Order = "rgb"
    fit: Fit = "crop"
    size: tuple[int, int] | None = None
    crop_ratio: float = 0.875
    resample: str = "bilinear"

    def __post_init__(self) -> None:
        if problems := list(_problems(self)):
            raise SettingError("preprocessing: " + "; ".join(problems))


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image that is ready for a model.

    `tensor`: (1, C, H, W) or (1, H, W, C) as the model expects it; float32, or the model's own dtype
    where that is an integer one. `box`: left, top, right and bottom of the part of `image` that
    the tensor shows, in pixels of `image`, not rounded. `image`: the original, mode "RGB".
    """

    tensor: Array
    box: Box
    image: Image.Image


def _problems(settings: Preprocessing) -> Iterator[str]:
    if not (math.isfinite(settings.scale) and settings.scale > 0):
        yield f"scale {settings.scale}: expected a number above 0 (255, 127.5 or 1)"
    for name, values in (("mean", settings.mean), ("std", settings.std)):
        if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
            yield f"{name} {list(values)}: expected one number, or one for each of 3 channels"
    if any(value <= 0 for value in settings.std):
        yield f"std {list(settings.std)}: expected numbers above 0"
    if settings.order not in ("rgb", "bgr"):
        yield f"order {settings.order!r}: expected 'rgb' or 'bgr'"
    if settings.fit not in ("crop", "squash"):
        yield f"fit {settings.fit!r}: expected 'crop' or 'squash'"
    if settings.resample not in _RESAMPLE:
        yield f"resample {settings.resample!r}: expected {' or '.join(map(repr, _RESAMPLE))}"
    if not 0 < settings.crop_ratio <= 1:
        yield f"crop_ratio {settings.crop_ratio}: expected above 0 and at most 1"
    if settings.size is not None and not _is_size(settings.size):
        yield f"size {settings.size}: expected (height, width), each 1 to {LARGEST_SIDE} pixels"


def _is_size(size: tuple[int, ...]) -> bool:
    return len(size) == 2 and all(
        isinstance(side, int) and 1 <= side <= LARGEST_SIDE for side in size
    )


PRESETS: Registry[Preprocessing] = Registry("preprocessing preset")
PRESETS.add("imagenet", Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)))
PRESETS.add("tf", Preprocessing(scale=127.5, mean=(1.0,)))
PRESETS.add("caffe", Preprocessing(scale=1.0, mean=(104.0, 117.0, 123.0), order="bgr"))
# These two are independent of the task, so they do not crop.
PRESETS.add("unit", Preprocessing(fit="squash"))
PRESETS.add("raw", Preprocessing(scale=1.0, fit="squash"))


def preset_for(takes: ImageInput) -> str:
    """The preset to assume for a model that specifies none: "raw" for integer inputs, or "imagenet"."""
    return "raw" if takes.dtype.kind in "iu" else "imagenet"


def with_overrides(
    preprocessing: Preprocessing,
    *,
    size: tuple[int, int] | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    scale: float | None = None,
    order: Order | None = None,
    fit: Fit | None = None,
) -> Preprocessing:
    """`preprocessing` with the given settings in place of its own; None leaves a setting as it is.

    Raises:
        SettingError: Values out of range.
    """
    overrides = {"size": size, "mean": mean, "std": std, "scale": scale, "order": order, "fit": fit}
    settings: dict[str, Any] = {
        name: value for name, value in overrides.items() if value is not None
    }
    return replace(preprocessing, **settings)


def to_dict(preprocessing: Preprocessing) -> dict[str, Any]:
    """The settings by name, with lists for tuples: as a manifest (JSON) stores them."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(preprocessing).items()
    }


def from_dict(settings: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that `to_dict` described. TypeError for unknown settings, SettingError for values that
    are out of range.
    """
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    return Preprocessing(**values)


def prepare(image: Image.Image, preprocessing: Preprocessing, takes: ImageInput) -> PreparedImage:
    """`image` as the tensor that a model with the input `takes` expects.

    A model of one channel gets the gray image, with mean and std averaged over the channels. An
    integer input gets the values rounded and saturated to its dtype; an int8 input gets pixels - 128
    where the settings leave pixels at 0 to 255 (preset "raw"), the convention of quantized models.

    Raises:
        SettingError: The model expects neither 1 nor 3 channels, its size is fixed and not the
            explicit one of `preprocessing`, or the settings leave nearly nothing of the image
            in the model's integer dtype.
        ImageError: The image cannot be decoded.
    """
    rgb = image if image.mode == "RGB" else read(image)
    channels = _channel_count(takes)
    mean, std = (
        _per_channel(values, channels) for values in (preprocessing.mean, preprocessing.std)
    )
    height, width = tensor_size(preprocessing, takes)
    box = _visible_box(rgb.size, (width, height), preprocessing)
    resized = rgb.resize((width, height), _RESAMPLE[preprocessing.resample], box=box)
    levels = np.arange(256, dtype=np.float32)[:, np.newaxis]
    values = (levels / preprocessing.scale - mean) / std  # of the 256 levels: a tenth of the time
    table = _to_model_dtype(values.astype(np.float32), values[[0, -1]], takes)
    tensor = _look_up(table, _pixels(resized, channels, preprocessing.order), takes.layout)
    return PreparedImage(tensor[np.newaxis], box, rgb)


def gray_level(preprocessing: Preprocessing, takes: ImageInput, level: float) -> Array:
    """The values of a gray image in the tensor of a model: 0 is black, 1 white. (1, C, 1, 1) or (1, 1, 1, C),
    in the dtype of the model.
    """
    channels = _channel_count(takes)
    mean, std = (
        _per_channel(values, channels) for values in (preprocessing.mean, preprocessing.std)
    )
    values, *span = (
        (np.full((1, 1, 1, 1), pixel) / preprocessing.scale - mean) / std
        for pixel in (255.0 * level, 0.0, 255.0)
    )
    converted = _to_model_dtype(values.astype(np.float32), np.concatenate(span), takes)
    return np.moveaxis(converted, -1, 1) if takes.layout == "NCHW" else converted


def _channel_count(takes: ImageInput) -> int:
    if takes.channels not in (None, 1, 3):
        raise SettingError(
            f"the model's input {takes.name!r} expects {takes.channels} channels, but images can be prepared "
            "only for 1 or 3; preprocess the array yourself and pass it instead of an image"
        )
    return takes.channels or 3


def _per_channel(values: tuple[float, ...], channels: int) -> Floats:
    """(channels,): a single number goes to every channel, three become their average for one."""
    return np.full(channels, np.mean(values)) if channels != len(values) else np.array(values)


def tensor_size(preprocessing: Preprocessing, takes: ImageInput) -> tuple[int, int]:
    """(height, width) of the tensor: the model's own, the explicit one, or 224 x 224.

    SettingError if the model's size is fixed and not the explicit one, or if a size is out of range.
    """
    requested = preprocessing.size or (None, None)
    for fixed, side in zip((takes.height, takes.width), requested, strict=True):
        if None not in (fixed, side) and fixed != side:
            raise SettingError(
                f"size {requested[0]} x {requested[1]}: the model's input {takes.name!r} is fixed at "
                f"{takes.height or 'any'} x {takes.width or 'any'} (height x width); "
                "leave out the size"
            )
    side = takes.height or takes.width or _DEFAULT_SIDE  # an unspecified side makes a square
    height, width = takes.height or requested[0] or side, takes.width or requested[1] or side
    if not _is_size((height, width)):
        raise SettingError(
            f"the model's input {takes.name!r} is {height} x {width}, but images can be prepared only for "
            f"sides of 1 to {LARGEST_SIDE} pixels"
        )
    return height, width


def _visible_box(
    image: tuple[int, int], tensor: tuple[int, int], preprocessing: Preprocessing
) -> Box:
    """The part of the image that the tensor shows; both sizes are (width, height).

    For "crop": where the usual two steps, resizing and cutting out the center at whole pixels, would
    put it. Pillow resamples that part directly: the same pixels, without the large image between.
    """
    if preprocessing.fit == "squash":
        return (0.0, 0.0, float(image[0]), float(image[1]))
    resized_sides = [math.floor(side / preprocessing.crop_ratio + 1e-9) for side in tensor]
    # the axis that decides the scale
    limiting_axis = int(resized_sides[1] * image[0] > resized_sides[0] * image[1])
    resized = [resized_sides[limiting_axis] * side // image[limiting_axis] for side in image]
    start = [round((full - side) / 2) for full, side in zip(resized, tensor, strict=True)]
    left, top = (s * p / r for s, p, r in zip(start, image, resized, strict=True))
    right, bottom = (
        min((s + t) * p / r, p) for s, t, p, r in zip(start, tensor, image, resized, strict=True)
    )
    return (left, top, right, bottom)


def _pixels(image: Image.Image, channels: int, order: Order) -> NDArray[np.uint8]:
    """(H, W, channels), 0 to 255, in the model's channel order."""
    if channels == 1:
        return np.asarray(image.convert("L"))[..., np.newaxis]
    rgb = np.asarray(image)
    return rgb if order == "rgb" else rgb[..., ::-1]


def _look_up(table: Array, pixels: NDArray[np.uint8], layout: str) -> Array:
    """(C, H, W) or (H, W, C): each pixel's entry in the table (256, C) of its channel."""
    height, width, channels = pixels.shape
    shape = (channels, height, width) if layout == "NCHW" else pixels.shape
    tensor = np.empty(shape, table.dtype)
    planes = tensor if layout == "NCHW" else np.moveaxis(tensor, -1, 0)
    for channel, plane in enumerate(planes):
        plane[...] = np.take(table[:, channel], pixels[..., channel])
    return tensor


def _to_model_dtype(values: NDArray[np.float32], span: Floats, takes: ImageInput) -> Array:
    """`values` in the model's dtype; `span` is what 0 and 255 become."""
    if takes.dtype.kind in "bOSU":
        raise SettingError(
            f"the model's input {takes.name!r} is of type {takes.dtype}, which cannot hold pixels"
        )
    if takes.dtype.kind not in "iu":
        return values.astype(takes.dtype)
    limits = np.iinfo(takes.dtype)
    zero = 128 if takes.dtype == np.int8 and span.min() >= 0 and span.max() > limits.max else 0
    low, high = np.clip(span - zero, limits.min, limits.max)
    if np.max(high - low) < _FEWEST_LEVELS:
        raise SettingError(
            f"the preprocessing produces only {low.min():.3g} to {high.max():.3g} for the {takes.dtype} "
            f"input {takes.name!r}, so almost nothing of the image remains; use the preset 'raw'"
        )
    return cast_saturating(values - zero, takes.dtype)
