"""The maps of a detector with three grids lie on the object that is explained, by its automatic layers.

Red squares are objects of class 0, green ones of class 1. The boxes are computed from blue: a blue square is
evidence for no class.
"""

import re
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxcam
from onnxcam.arrays import Floats

SIZE, CELLS = 32, 8  # of the image, and of the finest grid
OBJECT, DECOY = (slice(4, 8), slice(20, 24)), (slice(24, 28), slice(0, 4))


def detector() -> onnx.ModelProto:
    """Scores (1, boxes, 4 + 2) of three grids: every cell has the mean of its pixels."""
    heads = "".join(
        f"""
        p{level} = AveragePool<kernel_shape = [{side}, {side}], strides = [{side}, {side}]>(x)
        n{level} = Conv(p{level}, mix)  f{level} = Relu(n{level})  s{level} = Conv(f{level}, classes)
        m{level} = Conv(p{level}, mix)  b{level} = Relu(m{level})  q{level} = Conv(b{level}, corners)
        a{level} = Concat<axis = 1>(q{level}, s{level})  rows{level} = Reshape(a{level}, rows)"""
        for level, side in ((1, 4), (2, 8), (3, 16))
    )
    proto = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["": 17]> net (float[1, 3, {SIZE}, {SIZE}] x) => (float[1, k, 6] y) {{
            rows = Constant<value_ints = [1, 6, -1]>()
            {heads}  joined = Concat<axis = 2>(rows1, rows2, rows3)
            widths = Constant<value_ints = [4, 2]>()  box, scores = Split<axis = 1>(joined, widths)
            p = Sigmoid(scores)  t = Concat<axis = 1>(box, p)  y = Transpose<perm = [0, 2, 1]>(t) }}"""
    )
    weights = {
        "mix": np.eye(3, dtype=np.float32)[:, :, None, None],
        "classes": np.array([[4, -4, 0], [-4, 4, 0]], np.float32)[:, :, None, None],
        "corners": np.array([[0, 0, 8]] * 4, np.float32)[:, :, None, None],
    }
    proto.graph.initializer.extend(numpy_helper.from_array(w, name) for name, w in weights.items())
    return proto


def image(channel: int) -> Floats:
    """An object of one color, and a larger blue square."""
    pixels = np.zeros((1, 3, SIZE, SIZE), np.float32)
    pixels[0, channel][OBJECT] = 1
    pixels[0, 2][DECOY] = 3
    return pixels


@pytest.mark.parametrize("channel", [0, 1])
@pytest.mark.parametrize("method", ["grad-cam", "hires-cam", "layer-cam", "smooth-grad-cam++"])
def test_map_of_detector_lies_on_the_object(method: str, channel: int) -> None:
    few: dict[str, Any] = {"samples": 4, "noise": 0.0} if method.startswith("smooth") else {}
    explainer = onnxcam.Explainer(
        detector().SerializeToString(), method, device="cpu", cache=False, **few
    )
    explanation = explainer(image(channel), target=channel)
    assert [*explanation.layers] == ["f1", "f2", "f3"]
    saliency = explanation.layer_maps[0]
    assert saliency.shape == (CELLS, CELLS)
    assert saliency[1, 5] == saliency.max() > 0
    assert saliency[6, 0] == 0


def test_map_of_other_class_is_empty() -> None:
    """No cell is evidence for it."""
    explainer = onnxcam.Explainer(
        detector().SerializeToString(), "hires-cam", device="cpu", cache=False
    )
    assert explainer(image(0), target=1).is_empty[0]


def test_activations_of_detector_are_those_of_its_largest_grid_with_a_notice() -> None:
    content = detector().SerializeToString()
    images = [np.random.default_rng(n).random((3, SIZE, SIZE), np.float32) for n in range(10)]
    notice = r"3 layers, of which f1 is read, .*: f2, f3"
    scanner = onnxcam.Scanner(content, images, device="cpu", cache=False)
    assert scanner.layer == "f1"
    assert any(re.search(notice, text) for text in scanner.notices)
    factorization = onnxcam.concepts(content, images, count=2, device="cpu", cache=False)
    assert factorization.layer == "f1"
    assert any(re.search(notice, text) for text in factorization.notices)
    factorization.contributions(images[0])
