"""RoiAlign: means over samples between the cells of regions.

Along one axis the mean of a bin is a row of weights over all cells, so y = rows x columns^T. The cotangent of x
is rows^T g columns, summed over the regions of each image. The regions get no cotangent, as in torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxcam.arrays import FLOAT32
from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.slicing import arange, dim_size
from onnxcam.graph.tracing import Value

rules = Rules()
PRECISE = {FLOAT32, np.dtype(np.float64)}  # positions are computed in no other dtypes


@dataclass(frozen=True)
class Bins:
    """One axis of the regions: start and extent in cells (R, 1, 1), and the number of bins.

    `samples` is the number of samples of a bin; 0 for one per cell, rounded up.
    """

    start: Value
    extent: Value
    bins: int
    samples: int

    @property
    def step(self) -> Value:
        """The cells that a bin spans (R, 1, 1)."""
        return self.extent / float(self.bins)

    @property
    def counts(self) -> Value:
        """The samples of a bin: (R, 1, 1), or (1,) where all regions have the same number."""
        if self.samples:
            return self.start.constant_like([float(self.samples)])
        return self.start.build.op("Ceil", self.step)

    @property
    def numbers(self) -> Value:
        """0, 1, 2, … for the samples of the region with the most samples."""
        counts = self.counts
        if self.samples:
            return counts.constant_like(np.arange(float(self.samples)))
        or_one = anp.concatenate([anp.reshape(counts, [-1]), counts.constant_like([1.0])])
        largest = anp.max(or_one).astype(np.dtype(np.int64))  # also where there is no region
        return arange(largest).astype(counts.dtype)

    def weights(self, size: Value) -> Value:
        """The weight of each of the `size` cells of the axis in the mean of each bin: (R, bins, size).

        A sample outside the centers of the outermost cells has the value there; more than one cell outside, 0.
        """
        zero, last = self.start.constant_like(0.0), size.astype(self.start.dtype) - 1.0
        counts = anp.maximum(self.counts, self.start.constant_like(1.0))
        bins = self.start.constant_like(np.arange(float(self.bins))[:, None])
        positions = self.start + bins * self.step + (self.numbers + 0.5) * self.step / counts
        valid = anp.logical_and(positions >= -1.0, positions <= last + 1.0)
        valid = anp.logical_and(valid, anp.less(self.numbers, self.counts))
        clamped = anp.expand_dims(anp.minimum(anp.maximum(positions, zero), last), -1)
        cells = arange(size).astype(self.start.dtype)
        hat = anp.maximum(1.0 - anp.abs(clamped - cells), zero)
        return anp.sum(hat * anp.expand_dims(valid.astype(hat.dtype) / counts, -1), axis=2)


def _sum_regions(g: Value, x: Value, batch_indices: Value, height: Bins, width: Bins) -> Value:
    """The cotangent of x (N, C, H, W), given that of y (R, C, *bins): rows^T g columns, summed by image."""
    build = g.build
    images = arange(dim_size(x, 0))
    in_image = anp.equal(anp.reshape(batch_indices, [-1, 1]), images).astype(g.dtype)  # (R, N)
    rows = anp.expand_dims(height.weights(dim_size(x, 2)), 2) * anp.expand_dims(in_image, (1, 3))
    columns = g @ anp.expand_dims(width.weights(dim_size(x, 3)), 1)  # (R, C, bins, W)
    factors = [
        build.op("Flatten", factor, axis=2) for factor in (rows, anp.swapaxes(columns, 1, 2))
    ]
    total = anp.transpose(factors[0]) @ factors[1]  # (N H, C W)
    dims = anp.concatenate([dim_size(x, axis) for axis in (0, 2, 1, 3)])
    shape = tuple(x.shape[axis] for axis in (0, 2, 1, 3))
    return anp.swapaxes(build.op("Reshape", total, dims, shape=shape), 1, 2)


def _bins(sides: Value, axis: int, bins: int, samples: int, half_pixel: bool) -> Bins:
    """The bins along height (axis 0) or width (axis 1), of regions (R, 4): left, top, right, bottom."""
    start, stop = (
        anp.reshape(
            sides.build.op("Gather", sides, sides.build.constant([column]), axis=1), [-1, 1, 1]
        )
        for column in (1 - axis, 3 - axis)
    )
    extent = stop - start
    extent = extent if half_pixel else anp.maximum(extent, start.constant_like(1.0))
    return Bins(start, extent, bins, samples)


def roi_align_vjp(
    g: Value,
    y: Value,
    x: Value,
    rois: Value,
    batch_indices: Value,
    *,
    mode: str,
    output_height: int,
    output_width: int,
    sampling_ratio: int,
    spatial_scale: float,
    coordinate_transformation_mode: str | None,
) -> Value:
    """RoiAlign-22, mode avg, y = rows x columns^T: rows^T g columns. Since opset 10.

    With half_pixel, regions are shifted by half a cell. Otherwise, as before opset 16, they are not, and are
    at least one cell wide and high.
    """
    if mode != "avg":
        raise ModelError(
            f"the RoiAlign that writes {y.name!r} has mode {mode}, which has no gradient rule; "
            "export it with mode avg"
        )
    half_pixel = coordinate_transformation_mode == "half_pixel"
    dtype = g.dtype if g.dtype in PRECISE else FLOAT32
    sides = rois.astype(dtype) * spatial_scale - (0.5 if half_pixel else 0.0)
    height, width = (
        _bins(sides, axis, bins, sampling_ratio, half_pixel)
        for axis, bins in enumerate((output_height, output_width))
    )
    return _sum_regions(g.astype(dtype), x, batch_indices, height, width)


rules.vjp("RoiAlign", roi_align_vjp)
