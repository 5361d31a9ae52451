"""RoiAlign: means over samples of regions inside, across the border and far outside."""

import itertools
from typing import Any

import numpy as np
import pytest
from onnx import helper

from onnxcam.errors import ModelError
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import check_vjp, numbers, one_node_model, run

REGIONS = np.array(  # left, top, right, bottom
    [[0.3, 0.7, 4.1, 3.9], [2.2, 1.3, 2.6, 9.7], [-3.1, -2.2, 1.9, 2.3], [8.4, 6.1, 30.3, 21.2]],
    np.float32,
)
PICTURES = np.array([0, 1, 1, 0])
BINS: dict[str, Any] = {"output_height": 2, "output_width": 3}


@pytest.mark.parametrize("dynamic", [(), (0,), (0, 2, 3)], ids=str)
@pytest.mark.parametrize("samples", [0, 1, 3])
@pytest.mark.parametrize("mode", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("opset", [16, 21])
def test_roi_align(opset: int, mode: str, samples: int, dynamic: tuple[int, ...]) -> None:
    check_vjp(
        "RoiAlign",
        numbers(2, 3, 5, 7),
        REGIONS,
        PICTURES,
        opset=opset,
        dynamic=dynamic,
        coordinate_transformation_mode=mode,
        sampling_ratio=samples,
        spatial_scale=0.61,
        **BINS,
    )


@pytest.mark.parametrize("samples", [0, 2])
@pytest.mark.parametrize("count", [0, 4])
@pytest.mark.parametrize("opset", [10, 16])
def test_regions_that_the_model_finds(opset: int, count: int, samples: int) -> None:
    """As many as it finds, none too; against torchvision's formula in loops, aligned since opset 16."""
    given: dict[str, Any] = {"sampling_ratio": samples, "spatial_scale": 0.7, **BINS}
    feed = {"x": numbers(2, 3, 5, 7), "rois": REGIONS[:count], "pictures": PICTURES[:count]}
    node = helper.make_node("RoiAlign", list(feed), ["y"], **given)
    proto = one_node_model(node, feed, {}, opset)
    for tensor in proto.graph.input[1:]:
        tensor.type.tensor_type.shape.dim[0].dim_param = "found"
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "found"
    cotangent = numbers(count, 3, 2, 3, seed=1)
    augmented = gradient(load(proto), ["x"], "y").proto()
    told = run(augmented, {**feed, SEED: cotangent}, ["gradient/x"])[0]
    slow = spread(feed["x"].shape, feed["rois"], feed["pictures"], cotangent, given, opset >= 16)
    np.testing.assert_allclose(told, slow, atol=2e-6)


def spread(
    shape: tuple[int, ...],
    regions: Any,
    pictures: Any,
    cotangent: Any,
    given: dict[str, Any],
    aligned: bool,
) -> Any:
    """The gradient of torchvision's roi_align, sample by sample and corner by corner."""
    found = np.zeros(shape)
    for region, picture, own in zip(regions.astype(float), pictures, cotangent, strict=True):
        left, top, right, bottom = region * given["spatial_scale"] - aligned / 2
        least = -np.inf if aligned else 1.0
        high, wide = max(bottom - top, least) / 2, max(right - left, least) / 3
        rows = given["sampling_ratio"] or int(np.ceil(high))
        columns = given["sampling_ratio"] or int(np.ceil(wide))
        for i, j, row, column in itertools.product(range(2), range(3), range(rows), range(columns)):
            y = top + i * high + (row + 0.5) * high / rows
            x = left + j * wide + (column + 0.5) * wide / columns
            for h, w, weight in corners(y, x, *shape[2:]):
                found[picture, :, h, w] += own[:, i, j] * weight / (rows * columns)
    return found


def corners(y: float, x: float, height: int, width: int) -> list[tuple[int, int, float]]:
    """The four cells around a place and their bilinear weights."""
    if not (-1 <= y <= height and -1 <= x <= width):
        return []
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    h, w = int(y), int(x)
    below, right = min(h + 1, height - 1), min(w + 1, width - 1)
    down, across = y - h, x - w
    return [
        (h, w, (1 - down) * (1 - across)),
        (h, right, (1 - down) * across),
        (below, w, down * (1 - across)),
        (below, right, down * across),
    ]


def test_maxima_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match="export it with mode avg"):
        check_vjp("RoiAlign", numbers(2, 2, 5, 6), REGIONS, PICTURES, opset=16, mode="max", **BINS)
