"""Preprocessing that the `preprocessor_config.json` of Hugging Face describes.

The keys are those of the image processors of `transformers` (`models/*/image_processing_*.py`), and of the
feature extractors before them, whose sizes were plain numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from onnxcam.errors import SettingError
from onnxcam.image.description import Description
from onnxcam.image.geometry import Fit
from onnxcam.image.preprocess import PRESETS, RESAMPLING, Preprocessing

_KEYS = {"image_mean", "image_std", "do_normalize", "do_rescale", "do_resize", "rescale_factor"}
# Where a size that is a plain number is the short side, whether or not a center crop follows.
_SHORT_SIDE = ("clip", "convnext", "detr", "yolos", "levit", "mobilenet", "mobilevit", "poolformer")
_CONVNEXT_SQUASHES = 384  # pixels: images of this size and above are not cropped
_CONVNEXT_CROP = 224 / 256
_LEVIT_ENLARGES = 256 / 224


class _Fitting(NamedTuple):
    """How images are brought to the (height, width); `is_known` says that the file describes exactly that."""

    fit: Fit
    size: tuple[int, int] | None
    crop_ratio: float = 1.0
    is_known: bool = True


def is_processor(config: Mapping[str, Any]) -> bool:
    """Whether a JSON object describes an image processor."""
    return len(_KEYS & config.keys()) > 1


def from_processor(config: Mapping[str, Any]) -> Description:
    """The preprocessing that an image processor does. ValueError or TypeError for values that make no sense."""
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    kind = kind.lower()
    scale, shift = _rescaling(config)
    mean, std, normalization_is_known = _normalization(config)
    if kind.startswith("efficientnet") and config.get("include_top"):
        std = tuple(value * value for value in std)  # it divides by it once more
    fitting = _fitting(config, kind)
    try:
        preprocessing = Preprocessing(
            scale=scale,
            mean=tuple(value + shift for value in mean),
            std=std,
            order="bgr" if config.get("do_flip_channel_order") else "rgb",
            fit=fitting.fit,
            size=fitting.size,
            crop_ratio=fitting.crop_ratio,
            resample=_resample(config.get("resample")),
            # padding is added after normalization, as 0: that is the mean
            pad=tuple(min(max(value * scale, 0.0), 255.0) for value in mean),
        )
    except SettingError as error:
        raise ValueError(str(error)) from error
    open_settings = () if normalization_is_known else ("mean", "std")
    return Description(
        preprocessing, open_settings if fitting.is_known else (*open_settings, "fit")
    )


def _resample(code: Any) -> str:
    """The name of the filter, of which the file has Pillow's number."""
    return next((name for name, number in RESAMPLING.items() if number == code), "bilinear")


def _rescaling(config: Mapping[str, Any]) -> tuple[float, float]:
    """The divisor of the pixels, and what is subtracted after it."""
    if not config.get("do_rescale", True):
        return 1.0, 0.0
    factor = float(config.get("rescale_factor") or 1 / 255)
    is_centered = config.get("rescale_offset") or config.get("offset")
    return 1 / factor, 1.0 if is_centered else 0.0


def _normalization(
    config: Mapping[str, Any],
) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
    """Mean, standard deviation, and whether the file says what they are."""
    mean, std = config.get("image_mean"), config.get("image_std")
    if not config.get("do_normalize", mean is not None):
        return (0.0,), (1.0,), True
    if mean is None or std is None:
        default = PRESETS["imagenet"]
        return default.mean, default.std, False
    return _numbers(mean), _numbers(std), True


def _numbers(value: Any) -> tuple[float, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(float(number) for number in values)


def _fitting(config: Mapping[str, Any], kind: str) -> _Fitting:
    crop_size, size = config.get("crop_size"), config.get("size")
    crop = _sides(crop_size) if config.get("do_center_crop") and crop_size else None
    if not config.get("do_resize", True) or size is None:
        return _Fitting("crop" if crop else "squash", crop, is_known=False)
    if isinstance(size, Mapping) and not {"height", "width"} <= size.keys():
        return _keep_proportions(config, kind, size, crop)
    is_short_side = "max_size" in config or any(name in kind for name in _SHORT_SIDE)
    if isinstance(size, int) and is_short_side:
        sides = {"shortest_edge": size, "longest_edge": config.get("max_size")}
        return _keep_proportions(config, kind, sides, crop)
    full = _sides(size)
    if crop:
        is_smaller = crop[0] <= full[0] and crop[1] <= full[1]
        ratio = min(1.0, crop[0] / full[0])
        return _Fitting("squash-crop", crop, ratio, is_known=is_smaller)
    keeps_proportions = any(map(config.get, ("do_pad", "do_thumbnail", "keep_aspect_ratio")))
    return _Fitting("squash", full, is_known=not keeps_proportions)


def _keep_proportions(
    config: Mapping[str, Any], kind: str, sides: Mapping[str, Any], crop: tuple[int, int] | None
) -> _Fitting:
    """For images that are resized by their short or long side."""
    short = sides.get("shortest_edge") or sides.get("max_height")
    longest = sides.get("longest_edge") or sides.get("max_width")
    if longest:  # the tensor may have the proportions of the image, which a fixed size cannot have
        fit: Fit = "letterbox-corner" if config.get("do_pad", True) else "squash"
        side = int(short or longest)
        return _Fitting(fit, (side, side), is_known=not short and fit != "squash")
    if not short:
        raise ValueError(f"size {dict(sides)}: expected height and width, or an edge")
    side = int(short)
    if "convnext" in kind:
        if side >= _CONVNEXT_SQUASHES:
            return _Fitting("squash", (side, side))
        return _Fitting("crop", (side, side), float(config.get("crop_pct") or _CONVNEXT_CROP))
    enlarged = int(_LEVIT_ENLARGES * side) if kind.startswith("levit") else side
    enlarged = int(enlarged / float(config.get("crop_pct") or 1))
    if crop:
        return _Fitting("crop", crop, min(1.0, crop[0] / enlarged), is_known=max(crop) <= enlarged)
    return _Fitting("crop", (side, side), is_known=False)


def _sides(value: Any) -> tuple[int, int]:
    """(height, width) in a number, a pair, or an object."""
    if isinstance(value, Mapping):
        side = value.get("shortest_edge")
        return int(value.get("height", side)), int(value.get("width", side))
    if isinstance(value, list) and len(value) == 2:
        return int(value[0]), int(value[1])
    return int(value), int(value)
