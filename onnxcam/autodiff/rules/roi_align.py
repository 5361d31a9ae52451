"""RoiAlign: means over samples between the cells of regions.

Along one axis a bin's mean is a row of weights over all cells, so that y = rows x columns', and the cotangent
of x is rows' g columns, summed over the regions of each picture. None for the regions, as in torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph.slicing import dim_size
from onnxcam.graph.tracing import Builder
from onnxcam.graph.value import Value, np

rules = Rules()
WIDE = {
    np.dtype(np.float32),
    np.dtype(np.float64),
}  # what places are computed in; halves are coarse


@dataclass(frozen=True)
class Bins:
    """One axis of the regions: two sides in cells (R, 1, 1), and how many bins lie between them.

    `samples` is how many a bin has, 0 for one a cell, rounded up.
    """

    first: Value
    extent: Value
    bins: int
    samples: int

    @property
    def step(self) -> Value:
        """The cells that a bin spans (R, 1, 1)."""
        return self.extent / float(self.bins)

    @property
    def counts(self) -> Value:
        """The samples of a bin: (R, 1, 1), or (1,) where every region has as many."""
        if self.samples:
            return self.first.constant_like([float(self.samples)])
        return self.first.build.op("Ceil", self.step)

    @property
    def numbers(self) -> Value:
        """0, 1, ... for the samples of the region that has most."""
        build, counts = self.first.build, self.counts
        if self.samples:
            return counts.constant_like(np.arange(float(self.samples)))
        some = np.concatenate(
            [np.reshape(counts, [-1]), counts.constant_like([1.0])]
        )  # there may be no region
        most = np.max(some).astype(np.dtype(np.int64))
        return _counted(build, most).astype(counts.dtype)

    def weights(self, size: Value) -> Value:
        """The part of each cell of the axis, `size` of them, in each bin: (R, bins, size).

        A sample beyond the outermost centres has the value there; more than a cell beyond, none.
        """
        zero, end = self.first.constant_like(0.0), size.astype(self.first.dtype) - 1.0
        counts = np.maximum(self.counts, self.first.constant_like(1.0))
        bins = self.first.constant_like(np.arange(float(self.bins))[:, None])
        places = self.first + bins * self.step + (self.numbers + 0.5) * self.step / counts
        seen = np.logical_and(places >= -1.0, places <= end + 1.0)
        seen = np.logical_and(seen, np.less(self.numbers, self.counts))
        near = np.expand_dims(np.minimum(np.maximum(places, zero), end), -1)
        cells = _counted(self.first.build, size).astype(self.first.dtype)
        hat = np.maximum(1.0 - np.absolute(near - cells), zero)
        return np.sum(hat * np.expand_dims(seen.astype(hat.dtype) / counts, -1), axis=2)


def _counted(build: Builder, size: Value) -> Value:
    """0, 1, ... size - 1 as int64."""
    if size.constant is not None:
        return build.constant(np.arange(int(size.constant.item())))
    zero, one = build.constant(np.array(0)), build.constant(np.array(1))
    return build.op("Range", zero, np.reshape(size, []), one)


def roi_align_vjp(
    g: Value, x: Value, sides: Value, pictures: Value, bins: tuple[int, int], **given: Any
) -> Value:
    """The cotangent of x (N, C, H, W) from that of y (R, C, *bins). `sides` are in cells (R, 4): left, top,
    right, bottom.
    """
    build = g.build
    height, width = (_bins(sides, axis, bins[axis], **given) for axis in (0, 1))
    number = _counted(build, dim_size(x, 0))
    own = np.equal(np.reshape(pictures, [-1, 1]), number).astype(g.dtype)  # (R, N)
    rows = np.expand_dims(height.weights(dim_size(x, 2)), 2) * np.expand_dims(own, (1, 3))
    along = g @ np.expand_dims(width.weights(dim_size(x, 3)), 1)  # (R, C, bins, W)
    tables = [build.op("Flatten", each, axis=2) for each in (rows, np.swapaxes(along, 1, 2))]
    summed = np.transpose(tables[0]) @ tables[1]  # (N H, C W)
    apart = np.concatenate([dim_size(x, axis) for axis in (0, 2, 1, 3)])
    shape = tuple(x.shape[axis] for axis in (0, 2, 1, 3))
    return np.swapaxes(build.op("Reshape", summed, apart, shape=shape), 1, 2)


def _bins(sides: Value, axis: int, bins: int, samples: int, half: bool) -> Bins:
    first, last = (
        np.reshape(sides.build.op("Gather", sides, sides.build.constant([at]), axis=1), [-1, 1, 1])
        for at in (1 - axis, 3 - axis)
    )
    extent = last - first
    return Bins(
        first, extent if half else np.maximum(extent, first.constant_like(1.0)), bins, samples
    )


def roi_align(
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
    """Regions lie half a cell off, or, as before opset 16, do not and are a cell wide at least."""
    if mode != "avg":
        raise ModelError(
            f"the RoiAlign that writes {y.name!r} takes maxima of weighted corners, which has no gradient "
            "rule: export it with mode avg"
        )
    half = coordinate_transformation_mode == "half_pixel"
    dtype = g.dtype if g.dtype in WIDE else np.dtype(np.float32)
    sides = rois.astype(dtype) * spatial_scale - (0.5 if half else 0.0)
    bins = output_height, output_width
    wide = g.astype(dtype)
    return roi_align_vjp(wide, x, sides, batch_indices, bins, samples=sampling_ratio, half=half)


rules.vjp("RoiAlign", roi_align)
