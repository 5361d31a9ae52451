"""Image inputs of another shape, and what follows from it."""

import pytest
from onnx import parser

from onnxcam.model.image_shape import shape_images
from onnxcam.model.load import load
from onnxcam.model.model import Model

POOL = "MaxPool<kernel_shape = [2, 2], strides = [2, 2]>"
NET = """<ir_version: 8, opset_import: ["" : 17]>
net (float[{sizes}] x, float[N, 2] other) => (float[A, B, C, D] y, float[E, 2] z) {{
    z = Tanh(other) {nodes} }}"""
FIRST = NET.format(sizes="N, 3, H, W", nodes=f"y = {POOL}(x)")
LAST = NET.format(sizes="N, H, W, 3", nodes=f"t = Transpose<perm = [0, 3, 1, 2]>(x) y = {POOL}(t)")


def shapes_of(model: Model) -> dict[str, list[int | str]]:
    tensors = (*model.graph.inputs, *model.graph.outputs)
    return {tensor.name: list(tensor.shape) for tensor in tensors}


@pytest.mark.parametrize(("text", "image"), [(FIRST, [5, 3, 6, 8]), (LAST, [5, 6, 8, 3])])
def test_batch_and_size_reach_every_tensor(text: str, image: list[int]) -> None:
    shapes = shapes_of(shape_images(load(parser.parse_model(text)), "x", 5, (6, 8)))
    assert shapes == {"x": image, "other": [5, 2], "y": [5, 3, 3, 4], "z": [5, 2]}


@pytest.mark.parametrize(("text", "width"), [(FIRST, 3), (LAST, 2)])
def test_sizes_without_a_new_number_stay(text: str, width: int) -> None:
    model = load(parser.parse_model(text))
    before = shapes_of(model)
    shapes = shapes_of(shape_images(model, "x", size=(None, 8)))
    before["x"][width] = 8
    assert (shapes["x"], shapes["other"]) == (before["x"], before["other"])
    assert shapes["y"][3] == 4


def test_number_in_place_of_a_number_leaves_other_inputs() -> None:
    text = FIRST.replace("N, 3", "1, 3").replace("float[N, 2] other", "float[1, 2] other")
    shapes = shapes_of(shape_images(load(parser.parse_model(text)), "x", "many"))
    assert (shapes["x"][0], shapes["y"][0], shapes["other"]) == ("many", "many", [1, 2])
