"""What a model's own metadata says of its preprocessing and its labels. Nothing in it is trusted."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from onnxcam.errors import SettingError
from onnxcam.image.preprocess import Order, Preprocessing

_ORDERS: dict[str, Order] = {
    "Gray8": "rgb",  # one channel: the order is moot
    "Rgb8": "rgb",
    "Bgr8": "bgr",
    "Rgba8": "rgb",
    "Bgra8": "bgr",
}
# ONNX, docs/MetadataProps.md: range -> (scale, mean, std) that brings pixels of 0 to 255 there.
_RANGES = {
    "NominalRange_0_255": (1.0, 0.0, 1.0),
    "Normalized_0_1": (255.0, 0.0, 1.0),
    "Normalized_1_1": (127.5, 1.0, 1.0),
    "NominalRange_16_235": (255.0, -16 / 219, 1 / 219),
}
_LABEL_KEYS = ("names", "labels", "classes")
_LONGEST_TEXT = 4_000_000  # characters
_LARGEST_LABEL = 100_000


def from_metadata(metadata: Mapping[str, str]) -> Preprocessing | None:
    """The preprocessing that a model's `metadata_props` name, or None if they name none.

    Read are ONNX's `Image.BitmapPixelFormat` and `Image.NominalPixelRange`, and `mean`, `std` and
    `crop_pct` as exporters write them. Lists with numbers above 1 are taken as pixel values (0 to
    255), others as shares of 255. Values that make no sense count as absent.
    """
    order = _ORDERS.get(metadata.get("Image.BitmapPixelFormat", "").strip())
    span = _RANGES.get(metadata.get("Image.NominalPixelRange", "").strip())
    mean, std = _numbers(metadata.get("mean", "")), _numbers(metadata.get("std", ""))
    if order is None and span is None and mean is None and std is None:
        return None
    scale, mean, std = _arithmetic(span, mean, std)
    crop = _numbers(metadata.get("crop_pct", ""))
    try:
        # ONNX's keys describe the bitmap that is bound to the input, whole; cutting off its edges
        # is another step, and one that would hide part of the picture: only if it is named.
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


def labels(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """The names of the classes in a model's `metadata_props`, in order of class, or None.

    The keys `names`, `labels` and `classes` may hold a JSON list or object, a Python dict of index
    to name (as exporters of detectors write it), or one name a line. It is parsed, never executed.
    """
    found = (_parsed(metadata[key]) for key in _LABEL_KEYS if key in metadata)
    return next((names for names in found if names), None)


def read_labels(path: str | Path) -> tuple[str, ...]:
    """The labels in a UTF-8 file: one a line (the first is class 0), or a JSON list or object.

    Blank lines at the end are dropped; others hold the place of a class without a name.

    Raises:
        SettingError: The file cannot be read, is not UTF-8, or holds no labels.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingError(f"{path}: the labels are not UTF-8 text; save them as UTF-8") from error
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise SettingError(f"{path}: cannot read the labels ({cause}); check the path") from error
    if names := _parsed(text):
        return names
    raise SettingError(f"{path}: holds no labels; expected one a line, or a JSON list or object")


def _arithmetic(
    span: tuple[float, float, float] | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """Scale, mean and std; lists are closer to the training code than a range, so they win."""
    if mean is None and std is None:
        scale, shift, spread = span or _RANGES["Normalized_0_1"]
        return scale, (shift,), (spread,)
    mean, std = mean or (0.0,), std or (1.0,)
    if mean == (0.0,) * len(mean) and std == (1.0,) * len(std) and span is not None:
        return span[0], (span[1],), (span[2],)
    return 1.0 if max(*map(abs, mean), *std, 1.0) > 1 else 255.0, mean, std


def _numbers(text: str) -> tuple[float, ...] | None:
    """The 1 or 3 numbers in "[0.5, 0.5, 0.5]", "0.5,0.5,0.5" or "0.5 0.5 0.5"; otherwise None."""
    words = re.split(r"[,\s]+", text[:200].strip().strip("[]()").strip())
    try:
        numbers = tuple(float(word) for word in words)
    except ValueError:
        return None
    return numbers if len(numbers) in (1, 3) and all(map(math.isfinite, numbers)) else None


def _parsed(text: str) -> tuple[str, ...] | None:
    text = text.strip()
    if not text or len(text) > _LONGEST_TEXT:
        return None
    if text[0] not in "[{(":
        return tuple(line.strip() for line in text.splitlines())
    literal = _literal(text)
    if isinstance(literal, dict):
        return _by_index(literal)
    return _texts(literal) if isinstance(literal, list | tuple) else None


def _literal(text: str) -> Any:
    """The JSON or Python literal in `text`, or None."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return None


def _by_index(names: Mapping[Any, Any]) -> tuple[str, ...] | None:
    """The names in order of their index; an index without a name gets itself for one."""
    try:
        by_index = {int(index): name for index, name in names.items()}
    except (ValueError, TypeError, OverflowError):
        return None
    if not by_index or min(by_index) < 0 or max(by_index) > _LARGEST_LABEL:
        return None
    return _texts(by_index.get(index, str(index)) for index in range(max(by_index) + 1))


def _texts(names: Iterable[Any]) -> tuple[str, ...] | None:
    """Names as text; of a pair such as ["n01440764", "tench"] the last. None if one is no name."""
    last = [name[-1] if isinstance(name, list | tuple) and name else name for name in names]
    if not all(isinstance(name, str | int | float) for name in last):
        return None
    return tuple(str(name) for name in last) or None
