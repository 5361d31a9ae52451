"""Models for a fixed number of images."""

import numpy as np
import pytest
from onnx import parser

from onnxcam.errors import SettingError
from onnxcam.model.chosen_opset import require_opset, upgrade_to
from onnxcam.model.fixed_batch import fix_batch
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import gradient
from tests.autodiff.support.check import numbers, run

NET = """<ir_version: 8, opset_import: ["" : {opset}]>
net (float[{batch}, 3, 4, 5] image, float[{batch}, 1] factor, float[M] other)
=> (float[P, K] y, float[M] z) {{
    size = Shape<start = 0, end = 1>(image) rest = Constant<value_ints = [-1]>()
    shape = Concat<axis = 0>(size, rest) flat = Reshape(image, shape)
    y = Mul(flat, factor) z = Tanh(other) }}"""


def net(batch: str = "N", opset: int = 17) -> str:
    return NET.format(batch=batch, opset=opset)


@pytest.mark.parametrize("images", [1, 3])
def test_batch_is_fixed_in_all_inputs_of_its_name(images: int) -> None:
    model = load(parser.parse_model(net()))
    fixed = fix_batch(model, images)
    shapes = {tensor.name: tensor.shape for tensor in (*fixed.graph.inputs, *fixed.graph.outputs)}
    assert shapes["image"] == [images, 3, 4, 5]
    assert shapes["factor"] == [images, 1]
    assert shapes["other"] == ["M"]
    assert shapes["y"] == [images, 60]
    assert "Shape" not in {node.op for node in fixed.graph.nodes}
    assert model.graph.inputs[0].shape == ["N", 3, 4, 5]
    feed = {
        "image": numbers(images, 3, 4, 5),
        "factor": numbers(images, 1, seed=1),
        "other": numbers(2),
    }
    for name in ("y", "z"):
        before, after = (run(version.proto(), feed, [name])[0] for version in (model, fixed))
        np.testing.assert_array_equal(before, after)


def test_batch_that_the_model_has_stays() -> None:
    model = load(parser.parse_model(net(batch="2")))
    assert fix_batch(model, 2) is model
    with pytest.raises(SettingError, match="takes 2 images at once, so the batch cannot be 1"):
        fix_batch(model, 1)
    with pytest.raises(SettingError, match="1 or more"):
        fix_batch(model, 0)


def test_model_without_images_has_no_batch() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[N, 4] x) => (float[N, 4] y) { y = Tanh(x) }"""
    with pytest.raises(SettingError, match="no input for images"):
        fix_batch(load(parser.parse_model(text)), 1)


def test_batch_without_memory_is_refused() -> None:
    with pytest.raises(SettingError, match="does not run with a batch of 10000000000000"):
        fix_batch(load(parser.parse_model(net())), 10**13)


def test_opset_is_upgraded_only() -> None:
    model = load(parser.parse_model(net(opset=17)))
    assert upgrade_to(model, 17) is model
    assert upgrade_to(model, 20).opset == 20
    for opset in (13, 99):
        with pytest.raises(SettingError, match=f"opset={opset}.*expected 17 to 23"):
            upgrade_to(model, opset)


def test_opset_below_what_a_gradient_needs_is_refused() -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]> net (float[N, 3, 4, 4] x) => (float[A, B, C, D] y) {
        y = MaxPool<kernel_shape = [2, 2]>(x) }"""
    written = gradient(load(parser.parse_model(text)), ["x"], "y")
    require_opset(written, 16)
    with pytest.raises(SettingError, match="need opset 16"):
        require_opset(written, 13)
