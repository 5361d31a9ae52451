"""RoiAlign: regions inside, across the border and far outside."""

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
IMAGES = np.array([0, 1, 1, 0])
BINS: dict[str, Any] = {"output_height": 2, "output_width": 3}


@pytest.mark.parametrize("dynamic", [(), (0,), (0, 2, 3)], ids=str)
@pytest.mark.parametrize("samples", [0, 1, 3])
@pytest.mark.parametrize("mode", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("opset", [16, 21])
def test_roi_align_matches_differences(
    opset: int, mode: str, samples: int, dynamic: tuple[int, ...]
) -> None:
    check_vjp(
        "RoiAlign",
        numbers(2, 3, 5, 7),
        REGIONS,
        IMAGES,
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
def test_roi_align_of_any_number_of_regions_matches_torchvision(
    opset: int, count: int, samples: int
) -> None:
    """Also of none; against torchvision's formula in loops, with its `aligned` since opset 16."""
    attributes: dict[str, Any] = {"sampling_ratio": samples, "spatial_scale": 0.7, **BINS}
    feed = {"x": numbers(2, 3, 5, 7), "rois": REGIONS[:count], "images": IMAGES[:count]}
    node = helper.make_node("RoiAlign", list(feed), ["y"], **attributes)
    proto = one_node_model(node, feed, {}, opset)
    for tensor in proto.graph.input[1:]:
        tensor.type.tensor_type.shape.dim[0].dim_param = "regions"
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "regions"
    cotangent = numbers(count, 3, 2, 3, seed=1)
    augmented = gradient(load(proto), ["x"], "y").proto()
    computed = run(augmented, {**feed, SEED: cotangent}, ["gradient/x"])[0]
    expected = roi_align_vjp(
        feed["x"].shape, feed["rois"], feed["images"], cotangent, attributes, opset >= 16
    )
    np.testing.assert_allclose(computed, expected, atol=2e-6)


def roi_align_vjp(
    shape: tuple[int, ...],
    regions: Any,
    images: Any,
    cotangent: Any,
    attributes: dict[str, Any],
    aligned: bool,
) -> Any:
    """The gradient of torchvision's roi_align, sample by sample and corner by corner."""
    total = np.zeros(shape)
    for region, image, g in zip(regions.astype(float), images, cotangent, strict=True):
        left, top, right, bottom = region * attributes["spatial_scale"] - aligned / 2
        minimum = -np.inf if aligned else 1.0
        high, wide = max(bottom - top, minimum) / 2, max(right - left, minimum) / 3
        rows = attributes["sampling_ratio"] or int(np.ceil(high))
        columns = attributes["sampling_ratio"] or int(np.ceil(wide))
        for i, j, row, column in itertools.product(range(2), range(3), range(rows), range(columns)):
            y = top + i * high + (row + 0.5) * high / rows
            x = left + j * wide + (column + 0.5) * wide / columns
            for h, w, weight in corners(y, x, *shape[2:]):
                total[image, :, h, w] += g[:, i, j] * weight / (rows * columns)
    return total


def corners(y: float, x: float, height: int, width: int) -> list[tuple[int, int, float]]:
    """The four cells around a position and their bilinear weights."""
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


def test_roi_align_with_maxima_is_refused() -> None:
    with pytest.raises(ModelError, match="export it with mode avg"):
        check_vjp("RoiAlign", numbers(2, 2, 5, 6), REGIONS, IMAGES, opset=16, mode="max", **BINS)
