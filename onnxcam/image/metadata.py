"""Preprocessing that the metadata of a model describes. Nothing in it is trusted."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from onnxcam.errors import SettingError
from onnxcam.image.preprocess import LARGEST_SIDE, Order, Preprocessing
from onnxcam.specs import ImageInput

_ORDERS: dict[str, Order] = {
    "Gray8": "rgb",  # one channel: the order is moot
    "Rgb8": "rgb",
    "Bgr8": "bgr",
    "Rgba8": "rgb",
    "Bgra8": "bgr",
}
# of Ultralytics: (height, width); of timm: (channels, height, width)
_SIZE_KEYS = ("imgsz", "input_size")
# ONNX, docs/MetadataProps.md: range -> (scale, mean, std) that brings pixels of 0 to 255 there.
_RANGES = {
    "NominalRange_0_255": (1.0, 0.0, 1.0),
    "Normalized_0_1": (255.0, 0.0, 1.0),
    "Normalized_1_1": (127.5, 1.0, 1.0),
    "NominalRange_16_235": (255.0, -16 / 219, 1 / 219),
}


def from_metadata(metadata: Mapping[str, str]) -> Preprocessing | None:
    """The preprocessing that a model's `metadata_props` describe, or None if they describe none.

    It reads ONNX's `Image.BitmapPixelFormat` and `Image.NominalPixelRange`, and `mean`, `std` and
    `crop_pct` as exporters write them. Lists with numbers above 1 are taken as pixel values (0 to
    255), others as shares of 255. Values that make no sense count as absent.
    """
    order = _ORDERS.get(metadata.get("Image.BitmapPixelFormat", "").strip())
    span = _RANGES.get(metadata.get("Image.NominalPixelRange", "").strip())
    mean, std = _parse_numbers(metadata.get("mean", "")), _parse_numbers(metadata.get("std", ""))
    if order is None and span is None and mean is None and std is None:
        return None
    scale, mean, std = _scale_mean_std(span, mean, std)
    crop = _parse_numbers(metadata.get("crop_pct", ""))
    try:
        # ONNX's keys describe the complete bitmap that is bound to the input; cropping it
        # is another step, and one that would hide part of the image: only if it is named.
        return Preprocessing(
            scale=scale,
            mean=mean,
            std=std,
            order=order or "rgb",
            fit="crop" if crop else "squash",
            crop_ratio=crop[0] if crop else 0.875,
        )
    except SettingError:
        return None


def size_in_metadata(metadata: Mapping[str, str], takes: ImageInput) -> tuple[int, int] | None:
    """(height, width) that the metadata names (`imgsz`, `input_size`) for a model of any size, or None."""
    for key in _SIZE_KEYS:
        sides = [int(side) for side in re.findall(r"\d{1,5}", metadata.get(key, "")[:100])]
        height, width = (*sides, *sides)[-2:] if len(sides) in (1, 2, 3) else (0, 0)
        fits = takes.height in (None, height) and takes.width in (None, width)
        if fits and 1 <= height <= LARGEST_SIDE and 1 <= width <= LARGEST_SIDE:
            return height, width
    return None


def settings_in_metadata(metadata: Mapping[str, str]) -> frozenset[str]:
    """The settings that the metadata really names; `from_metadata` assumes the others."""
    lists = {key: _parse_numbers(metadata.get(key, "")) for key in ("mean", "std")}
    named = {key for key, numbers in lists.items() if numbers is not None}
    if metadata.get("Image.NominalPixelRange", "").strip() in _RANGES:
        return frozenset({"scale", "mean", "std"})
    # mean 0 and std 1 alone fit pixels of 0 to 1 as well as of 0 to 255
    shows_scale = any(
        set(lists[key] or ()) - {neutral} for key, neutral in (("mean", 0), ("std", 1))
    )
    return frozenset(named | {"scale"} if len(named) == len(lists) and shows_scale else named)


def _scale_mean_std(
    span: tuple[float, float, float] | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """Scale, mean and std; lists are closer to the training code than a range, so they win."""
    if mean is None and std is None:
        scale, shift, range_std = span or _RANGES["Normalized_0_1"]
        return scale, (shift,), (range_std,)
    mean, std = mean or (0.0,), std or (1.0,)
    if mean == (0.0,) * len(mean) and std == (1.0,) * len(std) and span is not None:
        return span[0], (span[1],), (span[2],)
    return 1.0 if max(*map(abs, mean), *std, 1.0) > 1 else 255.0, mean, std


def _parse_numbers(text: str) -> tuple[float, ...] | None:
    """The 1 or 3 numbers in "[0.5, 0.5, 0.5]", "0.5,0.5,0.5" or "0.5 0.5 0.5"; otherwise None."""
    words = re.split(r"[,\s]+", text[:200].strip().strip("[]()").strip())
    try:
        numbers = tuple(float(word) for word in words)
    except ValueError:
        return None
    return numbers if len(numbers) in (1, 3) and all(map(math.isfinite, numbers)) else None
