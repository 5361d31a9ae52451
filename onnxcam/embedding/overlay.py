"""The overlay in the graph: the colors of a map over the image, as `overlay` of `image.overlay` draws it over
the part that the model saw.
"""

from __future__ import annotations

import math

import numpy as np

from onnxcam.arrays import FLOAT32
from onnxcam.graph import anp
from onnxcam.graph.tracing import Value
from onnxcam.image.blend import LEVELS, blend_tables, check_drawing, lowest_level, muting_matrix
from onnxcam.image.colormap import choose_colormap
from onnxcam.image.preprocess import Preprocessing, levels_of_values
from onnxcam.specs import ImageInput

_SMALLEST = float(np.finfo(np.float32).tiny)  # of a maximum: GPUs count smaller ones as 0


def write_overlay(
    saliency: Value,
    shown: Value,
    *,
    signed: bool = False,
    colormap: str | None = None,
    opacity: float = 0.5,
    outliers: float = 0.0,
    is_empty: Value | None = None,
) -> Value:
    """(N, H, W, 3) uint8: the raw maps (N, H, W), finite, over the RGB images `shown` (N, H, W, 3) uint8.

    Normalized and colored as `overlay` does it; see there for `signed`, `colormap`, `opacity` and `outliers`.
    Where a map has no evidence, or `is_empty` (N,) bool says that it is none, the image is returned as it is.

    SettingError for numbers out of range or a color map that does not suit the map, UnknownNameError for none.
    """
    check_drawing(opacity, outliers)
    colors = choose_colormap(colormap, signed=signed)
    lowest, scale = lowest_level(colors), (LEVELS - 1) / (1 - lowest_level(colors))
    evidence = saliency if signed else anp.maximum(saliency, 0.0)
    strength = anp.abs(evidence) if signed else evidence
    peak = _peak(strength, outliers)
    has_evidence = peak >= _SMALLEST
    if is_empty is not None:
        has_evidence = has_evidence & ~anp.expand_dims(is_empty, (1, 2))
    share = anp.minimum(strength / anp.maximum(peak, _SMALLEST), 1.0)
    level = anp.sqrt(share)
    level = level * anp.sign(evidence) if signed else level
    index = anp.rint((level - lowest) * scale).astype(np.int32)
    remaining, added = (
        anp.take(saliency.build.constant(table, FLOAT32), index, axis=0)
        for table in blend_tables(colors, opacity)
    )
    image = shown.astype(FLOAT32)
    muted = anp.floor(anp.matmul(image, muting_matrix(opacity).T) + 0.5)
    drawn = anp.expand_dims(remaining, 3) * muted + added
    return anp.where(anp.expand_dims(has_evidence, 3), drawn, image).astype(np.uint8)


def _peak(strength: Value, outliers: float) -> Value:
    """(N, 1, 1): the largest strength of (N, H, W), without this fraction of those above 0."""
    if outliers == 0:
        return anp.max(strength, axis=(1, 2), keepdims=True)
    build, cells = (
        strength.build,
        math.prod(size for size in strength.shape[1:] if isinstance(size, int)),
    )
    flat = anp.reshape(strength, (strength.shape[0], cells))
    most = build.constant([int(outliers * cells) + 1])
    ordered, _ = build.ops("TopK", flat, most, outputs=2, axis=1)
    count = anp.sum((flat > 0).astype(FLOAT32), axis=1, keepdims=True)
    left_out = anp.floor(count * outliers).astype(np.int64)
    return anp.expand_dims(build.op("GatherElements", ordered, left_out, axis=1), 2)


def shown_from_tensor(tensor: Value, preprocessing: Preprocessing, takes: ImageInput) -> Value:
    """(N, H, W, 3) uint8: the RGB image that a tensor of the model shows, of which `preprocessing` made it."""
    rows = tensor if takes.layout == "NHWC" else anp.moveaxis(tensor, 1, -1)
    factor, shift = levels_of_values(preprocessing, takes)
    levels = anp.clip(anp.rint(rows.astype(FLOAT32) * factor + shift), 0.0, 255.0).astype(np.uint8)
    if len(factor) == 1:
        return anp.concatenate([levels] * 3, axis=3)
    return levels if preprocessing.order == "rgb" else anp.take(levels, [2, 1, 0], axis=3)
