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
from onnxcam.image.geometry import FITS, Box, Fit, place
from onnxcam.image.read import read
from onnxcam.registry import Registry
from onnxcam.specs import ImageInput

Order = Literal["rgb", "bgr"]

LARGEST_SIDE = 16384
_DEFAULT_SIDE = 224
_FEWEST_LEVELS = 16
_GRAY = (114.0,)  # of letterboxes, as YOLO has it
RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocessing:
    """How pixels (0 to 255) become what a model was trained on: (pixels / scale - mean) / std.

    Args:
        scale: The divisor of the pixels; above 0.
        mean: One number, or one per channel in the model's own channel order.
        std: Likewise; above 0.
        order: "rgb" or "bgr": the order of the model's channels.
        fit: "crop" brings the short side to size / crop_ratio and takes the center; "squash"
            stretches the full image to the size, and "squash-crop" to size / crop_ratio, of which it takes the
            center; "letterbox" keeps the proportions of the image and pads it to the size, evenly on both
            sides, and "letterbox-corner" below or on the right.
        size: (height, width) in pixels, 1 to 16384; None: the model's own, else 224 x 224.
        crop_ratio: The share of a side that "crop" and "squash-crop" keep, above 0 and at most 1.
        resample: "bilinear", "bicubic", or another filter of Pillow by its name, with antialiasing.
        pad: The pixels of the padding, 0 to 255; one number, or one per channel in the model's own order.

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
    pad: tuple[float, ...] = _GRAY

    def __post_init__(self) -> None:
        if problems := list(_problems(self)):
            raise SettingError("preprocessing: " + "; ".join(problems))


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image that is ready for a model.

    `tensor`: (1, C, H, W) or (1, H, W, C) as the model expects it; float32, or the model's own dtype
    where that is an integer one. `box`: left, top, right and bottom of the part of `image` that
    the tensor shows, in pixels of `image`, not rounded; with padding, it extends beyond `image`. `image`: the
    original, mode "RGB".
    """

    tensor: Array
    box: Box
    image: Image.Image


def _problems(settings: Preprocessing) -> Iterator[str]:
    if not (math.isfinite(settings.scale) and settings.scale > 0):
        yield f"scale {settings.scale}: expected a number above 0 (255, 127.5 or 1)"
    for name, values in (("mean", settings.mean), ("std", settings.std), ("pad", settings.pad)):
        if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
            yield f"{name} {list(values)}: expected one number, or one for each of 3 channels"
    if any(value <= 0 for value in settings.std):
        yield f"std {list(settings.std)}: expected numbers above 0"
    if not all(0 <= value <= 255 for value in settings.pad):
        yield f"pad {list(settings.pad)}: expected pixels of 0 to 255"
    if settings.order not in ("rgb", "bgr"):
        yield f"order {settings.order!r}: expected 'rgb' or 'bgr'"
    if settings.fit not in FITS:
        yield f"fit {settings.fit!r}: expected {', '.join(map(repr, FITS[:-1]))} or {FITS[-1]!r}"
    if settings.resample not in RESAMPLING:
        yield f"resample {settings.resample!r}: expected {', '.join(RESAMPLING)}"
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
    pad: tuple[float, ...] | None = None,
) -> Preprocessing:
    """`preprocessing` with the given settings in place of its own; None leaves a setting as it is.

    Raises:
        SettingError: Values out of range.
    """
    overrides: dict[str, Any] = {
        "size": size,
        "mean": mean,
        "std": std,
        "scale": scale,
        "order": order,
        "fit": fit,
        "pad": pad,
    }
    settings = {name: value for name, value in overrides.items() if value is not None}
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
    height, width = tensor_size(preprocessing, takes)
    placement = place(rgb.size, (width, height), preprocessing.fit, preprocessing.crop_ratio)
    resample = RESAMPLING[preprocessing.resample]
    resized = rgb.resize(placement.size, resample, box=placement.source)
    table = level_table(preprocessing, takes)
    pixels = _pixels(resized, len(table[0]), preprocessing.order)
    tensor = _look_up(table, pixels, takes.layout, (height, width), placement.corner)
    return PreparedImage(tensor[np.newaxis], placement.box((width, height)), rgb)


def level_table(preprocessing: Preprocessing, takes: ImageInput) -> Array:
    """(257, C) in the dtype of the model: what the levels 0 to 255 of a channel become, and its padding.

    SettingError as `prepare` raises it.
    """
    channels = _channel_count(takes)
    mean, std, pad = (
        _per_channel(values, channels)
        for values in (preprocessing.mean, preprocessing.std, preprocessing.pad)
    )
    levels = np.arange(256, dtype=np.float32)[:, np.newaxis].repeat(channels, axis=1)
    levels = np.vstack([levels, pad.astype(np.float32)])
    values = (levels / preprocessing.scale - mean) / std  # of these only: a tenth of the time
    return _to_model_dtype(values.astype(np.float32), values[[0, 255]], takes)


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
            "only for 1 or 3; preprocess the array yourself, and pass it as .npy, .npz or a TIFF with a page "
            "per channel"
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


def _pixels(image: Image.Image, channels: int, order: Order) -> NDArray[np.uint8]:
    """(H, W, channels), 0 to 255, in the model's channel order."""
    if channels == 1:
        return np.asarray(image.convert("L"))[..., np.newaxis]
    rgb = np.asarray(image)
    return rgb if order == "rgb" else rgb[..., ::-1]


def _look_up(
    table: Array,
    pixels: NDArray[np.uint8],
    layout: str,
    size: tuple[int, int],
    corner: tuple[int, int],
) -> Array:
    """(C, H, W) or (H, W, C): for the pixels, whose upper left corner is at `corner` (left, top), the values in
    the table of their channel; around them the padding.
    """
    height, width, channels = pixels.shape
    tensor = np.empty((channels, *size) if layout == "NCHW" else (*size, channels), table.dtype)
    planes = tensor if layout == "NCHW" else np.moveaxis(tensor, -1, 0)
    left, top = corner
    if (height, width) != size:
        planes[...] = table[-1, :, np.newaxis, np.newaxis]
    for channel, plane in enumerate(planes):
        shown = plane[top : top + height, left : left + width]
        shown[...] = np.take(table[:, channel], pixels[..., channel])
    return tensor


def levels_of_values(preprocessing: Preprocessing, takes: ImageInput) -> tuple[Floats, Floats]:
    """(C,), (C,): a factor and a shift that make levels of the values in a tensor of the model."""
    channels = _channel_count(takes)
    mean, std = (
        _per_channel(values, channels) for values in (preprocessing.mean, preprocessing.std)
    )
    scale = preprocessing.scale
    span = (np.array([[0.0], [255.0]]) / scale - mean) / std
    return std * scale, (mean + _zero_point(span, takes) * std) * scale


def _zero_point(span: Floats, takes: ImageInput) -> int:
    """What is subtracted from the values of a tensor, of which `span` are those of 0 and 255."""
    is_shifted = takes.dtype == np.int8 and span.min() >= 0 and span.max() > np.iinfo(np.int8).max
    return 128 if is_shifted else 0


def _to_model_dtype(values: NDArray[np.float32], span: Floats, takes: ImageInput) -> Array:
    """`values` in the model's dtype; `span` is what 0 and 255 become."""
    if takes.dtype.kind in "bOSU":
        raise SettingError(
            f"the model's input {takes.name!r} is of type {takes.dtype}, which cannot hold pixels"
        )
    if takes.dtype.kind not in "iu":
        return values.astype(takes.dtype)
    limits, zero = np.iinfo(takes.dtype), _zero_point(span, takes)
    low, high = np.clip(span - zero, limits.min, limits.max)
    if np.max(high - low) < _FEWEST_LEVELS:
        raise SettingError(
            f"the preprocessing produces only {low.min():.3g} to {high.max():.3g} for the {takes.dtype} "
            f"input {takes.name!r}, so almost nothing of the image remains; use the preset 'raw'"
        )
    return cast_saturating(values - zero, takes.dtype)
