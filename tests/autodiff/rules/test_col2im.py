"""Col2Im: blocks that overlap, leave gaps, and extend beyond the image into the pads."""

from typing import Any

import numpy as np
import pytest
from onnx import parser

from onnxcam.errors import ModelError
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import gradient
from tests.autodiff.support.check import check_vjp, numbers


def count_blocks(image: list[int], block: list[int], attributes: dict[str, Any]) -> int:
    """The number of blocks, by the formula of the specification."""
    rank = len(image)
    pads = attributes.get("pads", [0] * 2 * rank)
    reach = [
        size
        + pads[i]
        + pads[i + rank]
        - attributes.get("dilations", [1] * rank)[i] * (block[i] - 1)
        - 1
        for i, size in enumerate(image)
    ]
    steps = attributes.get("strides", [1] * rank)
    return int(np.prod([extent // step + 1 for extent, step in zip(reach, steps, strict=True)]))


@pytest.mark.parametrize("dynamic", [(), (0,)], ids=str)
@pytest.mark.parametrize(
    ("image", "block", "attributes"),
    [
        ([5, 4], [2, 3], {}),
        ([6, 7], [3, 2], {"strides": [2, 3], "pads": [1, 0, 2, 1]}),
        ([7, 6], [2, 2], {"dilations": [3, 2], "pads": [0, 1, 1, 1]}),
        ([9, 9], [2, 2], {"strides": [4, 3]}),
        ([9], [4], {"strides": [2]}),
        ([4, 5, 3], [2, 2, 2], {"strides": [2, 1, 1]}),
    ],
)
def test_col2im_matches_differences(
    image: list[int], block: list[int], attributes: dict[str, Any], dynamic: tuple[int, ...]
) -> None:
    x = numbers(2, 3 * int(np.prod(block)), count_blocks(image, block, attributes))
    sizes = (np.array(size, np.int64) for size in (image, block))
    check_vjp("Col2Im", x, *sizes, opset=18, dynamic=dynamic, **attributes)


def test_computed_block_is_refused() -> None:
    text = """<ir_version: 8, opset_import: ["": 18]>
        net (float[1, 12, 6] x, int64[2] b) => (float[1, C, 3, 4] y) <int64[2] s = {3, 4}> {
            a = Tanh(x)
            y = Col2Im(a, s, b) }"""
    with pytest.raises(ModelError, match="needs a fixed block"):
        gradient(load(parser.parse_model(text)), ["a"], "y")
