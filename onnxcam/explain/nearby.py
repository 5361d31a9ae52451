"""Images so close to another one that only rounding differs."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcam.arrays import Images, cast_saturating

NEAR = 2.0**-20  # part of an image's range, eight steps of float32
FEW_LEVELS = 0.15  # for integers: one value in a thousand is rounded to the next


def nearby_image(image: Images, factor: float) -> Any:
    """The image with noise, different for each factor, that changes only how values are rounded. Noise of 1/256
    of its range, or even 2**-16, would flip enough ReLUs of a deep model, or change a probability of 1e-20 so
    much, that maps with evidence differ.
    """
    draw = np.random.Generator(np.random.SFC64(int(1000 * factor)))
    values = image.astype(np.float64)
    span = float(values.max() - values.min()) or 1.0
    spread = span * max(NEAR, _epsilon(image)) if image.dtype.kind == "f" else FEW_LEVELS
    return cast_saturating(values + spread * draw.standard_normal(image.shape), image.dtype)


def _epsilon(array: Any) -> float:
    return float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0
