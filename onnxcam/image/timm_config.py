"""Preprocessing that the `config.json` of timm describes (`timm/data/transforms_factory.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxcam.errors import SettingError
from onnxcam.image.description import Description
from onnxcam.image.geometry import Fit
from onnxcam.image.preprocess import RESAMPLING, Preprocessing

_FITS: dict[str, Fit] = {"center": "crop", "squash": "squash-crop", "border": "letterbox"}
_DEFAULT_CROP = 0.875


def timm_settings(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The part of a JSON object that describes the images of a model of timm; None if there is none."""
    settings = config.get("pretrained_cfg", config)
    is_timm = isinstance(settings, Mapping) and {"mean", "std", "input_size"} <= settings.keys()
    return settings if is_timm else None


def from_timm(settings: Mapping[str, Any]) -> Description:
    """The preprocessing of a model of timm. ValueError or TypeError for values that make no sense."""
    mean, std = (tuple(map(float, settings[name])) for name in ("mean", "std"))
    fit = _FITS.get(str(settings.get("crop_mode") or "center"))
    resample = str(settings.get("interpolation") or "bilinear")
    _, height, width = map(int, settings["input_size"])
    try:
        preprocessing = Preprocessing(
            mean=mean,
            std=std,
            fit=fit or "crop",
            size=(height, width),
            crop_ratio=float(settings.get("crop_pct") or _DEFAULT_CROP),
            resample=resample if resample in RESAMPLING else "bilinear",
            pad=tuple(255 * value for value in mean),
        )
    except SettingError as error:
        raise ValueError(str(error)) from error
    # a border that is cropped again is no fit
    is_known = fit is not None and (fit != "letterbox" or preprocessing.crop_ratio == 1)
    return Description(preprocessing, () if is_known else ("fit",))
