"""Resize and Upsample: linear along each axis, y = x M, so the cotangent is g M^T.

M is computed when the graph is written if the sizes are known. Otherwise the graph resizes an identity matrix,
which gives M.
"""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Array, Floats
from onnxcam.autodiff.lowering.cubic import KEYS_A
from onnxcam.autodiff.lowering.interpolation import Interpolation
from onnxcam.autodiff.lowering.matmul import matmul_along
from onnxcam.autodiff.lowering.resize_scales import Numbers, ResizeScales
from onnxcam.autodiff.lowering.strided_conv import static_dim
from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph import anp
from onnxcam.graph.slicing import dim_size, refuse_too_many
from onnxcam.graph.tracing import Value

rules = Rules()
UNIFORM = {"asymmetric", "half_pixel", "half_pixel_symmetric"}  # the same weights at every cell
ABOUT_AXES = {"axes", "extrapolation_value", "keep_aspect_ratio_policy", "scales"}


def linear_vjp(
    g: Value, y: Value, x: Value, scales: ResizeScales, interpolation: Interpolation
) -> Value:
    """g M^T along every resized axis; where cells are only repeated, the sums of their repetitions."""
    axes = scales.resized_axes(x, y)
    repeats = _repeats(x, y, scales, interpolation, axes)
    if repeats:
        return _sum_blocks(g, x, repeats)
    for axis in axes:
        g = matmul_along(g, _matrix(x, y, axis, scales, interpolation), axis)
    if axes:
        g.tensor.shape = list(x.shape)
    return g


def _repeats(
    x: Value, y: Value, scales: ResizeScales, interpolation: Interpolation, axes: list[int]
) -> dict[int, int]:
    """How often each cell is repeated along each axis; empty if cells are not only repeated."""
    if interpolation.mode != "nearest" or not isinstance(x.shape[1 % x.ndim], int):
        return {}
    if interpolation.coordinates not in UNIFORM or any(axis < 2 for axis in axes):
        return {}
    by_axis = {axis: scales.scale(axis, x, y) for axis in axes}
    repeats = {
        axis: int(s) for axis, s in by_axis.items() if s is not None and s >= 1 and s % 1 == 0
    }
    if len(repeats) < len(axes):
        return {}
    for count in repeats.values():
        refuse_too_many(f"the Resize that reads {x.name!r}", 3 * count)
        matrix = interpolation.matrix(3, 3 * count, count)
        if matrix is None or not np.array_equal(matrix, np.repeat(np.eye(3), count, axis=1)):
            return {}
    return repeats


def _sum_blocks(g: Value, x: Value, repeats: dict[int, int]) -> Value:
    """A depthwise convolution with ones: four times faster than a sum over reshaped blocks."""
    channels = static_dim(x.shape[1])
    block = [repeats.get(axis, 1) for axis in range(2, x.ndim)]
    refuse_too_many(f"the Resize that reads {x.name!r}", channels, *block)
    ones = g.build.constant(np.ones((channels, 1, *block)), g.dtype)
    total = g.build.op("Conv", g, ones, group=channels, kernel_shape=block, strides=block)
    total.tensor.shape = list(x.shape)
    return total


def _matrix(
    x: Value, y: Value, axis: int, scales: ResizeScales, interpolation: Interpolation
) -> Floats | Value:
    """M (size, out) of one axis."""
    size, out = x.shape[axis], y.shape[axis]
    scale, crop = scales.scale(axis, x, y), scales.crop(axis)
    if isinstance(size, int) and isinstance(out, int) and scale is not None and crop is not None:
        refuse_too_many(f"the Resize that reads {x.name!r}", size, max(size, out))
        matrix = interpolation.matrix(size, out, scale, crop)
        if matrix is not None:
            return matrix
    return _resized_identity(x, y, axis, scales)


def _resized_identity(x: Value, y: Value, axis: int, scales: ResizeScales) -> Value:
    """M as the operator itself computes it: an identity matrix, its columns resized."""
    build, node, size = x.build, y.tensor.inputs[0], dim_size(x, axis)
    index, zero = scales.axes.index(axis), build.constant(0, x.dtype)
    zeros = build.op("Expand", zero, anp.concatenate([size, size], axis=0))
    identity = anp.expand_dims(build.op("EyeLike", zeros), (0, 1))
    ones = build.constant(np.ones(3, np.float32))
    operands: list[Value | None]
    if scales.scales is not None:
        operands = [anp.concatenate([ones, _number(x, scales.scales, index)], axis=0)]
    else:
        fixed = build.constant(np.ones(2, np.int64))
        no_scales = build.constant(np.zeros(0, np.float32)) if build.opset < 13 else None
        operands = [no_scales, anp.concatenate([fixed, size, dim_size(y, axis)], axis=0)]
    if node.op == "Resize" and build.opset >= 11:
        operands = [_roi(x, scales, index), *operands]
    attributes = {name: value for name, value in node.attrs.items() if name not in ABOUT_AXES}
    shape = (1, 1, x.shape[axis], y.shape[axis])
    matrix = build.op(node.op, identity, *operands, shape=shape, **attributes)
    return anp.squeeze(matrix, (0, 1))


def _number(x: Value, numbers: Array | Value, index: int) -> Value:
    """One of the numbers, as (1,)."""
    if not isinstance(numbers, Value):
        return x.build.constant(np.array([numbers[index]], np.float32))
    return x.build.op("Gather", numbers, x.build.constant(np.array([index])), axis=0)


def _roi(x: Value, scales: ResizeScales, index: int) -> Value:
    """The roi for the identity matrix: only its columns are cropped."""
    build, roi = x.build, scales.roi
    if roi is None or (not isinstance(roi, Value) and not len(roi)):
        return build.constant(np.zeros(0, np.float32))
    sides = []
    for full, position in ((0, index), (1, index + len(scales.axes))):
        sides += [build.constant(np.full(3, full, np.float32)), _number(x, roi, position)]
    return anp.concatenate(sides, axis=0)


def resize_vjp(
    g: Value,
    y: Value,
    x: Value,
    *,
    roi: Numbers,
    scales: Numbers,
    sizes: Numbers,
    axes: list[int] | None,
    mode: str,
    coordinate_transformation_mode: str | None,
    nearest_mode: str | None,
    cubic_coeff_a: float | None,
    exclude_outside: int | None,
    antialias: int | None,
    keep_aspect_ratio_policy: str | None,
) -> Value:
    """Resize-19: see `linear_vjp`. Since opset 10, which has asymmetric coordinates only."""
    coordinates = coordinate_transformation_mode or "asymmetric"
    resize_scales = ResizeScales(
        axes=tuple(int(axis) % x.ndim for axis in (range(x.ndim) if axes is None else axes)),
        scales=None if _is_empty(scales) else scales,
        sizes=None if _is_empty(sizes) else sizes,
        roi=roi if coordinates == "tf_crop_and_resize" else None,
        policy=keep_aspect_ratio_policy or "stretch",
    )
    interpolation = Interpolation(
        mode=mode,
        coordinates=coordinates,
        rounding=nearest_mode,
        cubic=KEYS_A if cubic_coeff_a is None else cubic_coeff_a,
        exclude=bool(exclude_outside),
        antialias=bool(antialias),
    )
    return linear_vjp(g, y, x, resize_scales, interpolation)


def _is_empty(numbers: Numbers) -> bool:
    if isinstance(numbers, Value):
        return numbers.shape == (0,)
    return numbers is None or not len(numbers)


def upsample_vjp(g: Value, y: Value, x: Value, *, scales: Numbers, mode: str) -> Value:
    """Upsample-9, the former name of Resize: see `linear_vjp`. Since opset 7."""
    resize_scales = ResizeScales(tuple(range(x.ndim)), scales, None, None)
    return linear_vjp(g, y, x, resize_scales, Interpolation(mode, "asymmetric", None))


rules.vjp("Resize", resize_vjp)
rules.vjp("Upsample", upsample_vjp)
