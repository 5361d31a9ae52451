"""Heads of several grids of one detector are explained together, auxiliary maps of a segmenter are not."""

import pytest

from onnxcam.heads.output_choice import choose_output
from onnxcam.heads.pooled_heads import pooled_heads
from onnxcam.heads.score import find_heads
from onnxcam.heads.tasks.choice import task_of
from onnxcam.model.load import load
from tests.heads.support.nets import build

HALF = "half = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(features)"
NETS = {  # outputs, body, the explained outputs in order, the task
    "auxiliary map first": (
        "float[N, 6, 8, 8] aux, float[N, 6, 8, 8] main",
        "aux = Conv(features, v) deep = Tanh(features) main = Conv(deep, v)",
        "main",
        "segmentation",
    ),
    "auxiliary map last": (
        "float[N, 6, 8, 8] main, float[N, 6, 8, 8] aux",
        "aux = Conv(features, v) deep = Tanh(features) main = Conv(deep, v)",
        "main",
        "segmentation",
    ),
    "smaller auxiliary map": (
        "float[N, 6, 8, 8] y, float[N, 6, 4, 4] aux",
        f"{HALF} y = Conv(features, v) aux = Conv(half, v)",
        "y",
        "segmentation",
    ),
    "maps of a detector with boxes": (
        "float[N, 6, 8, 8] a1, float[N, 6, 4, 4] b1, float[N, 4, 8, 8] box1, float[N, 4, 4, 4] box2",
        f"""{HALF} a1 = Conv(features, v) b1 = Conv(half, v) box1 = Conv(features, box)
            box2 = Conv(half, box)""",
        "a1 b1",
        "detection",
    ),
    "boxes of two grids": (
        "float[N, 64, 6] fine, float[N, 16, 6] coarse",
        f"""{HALF} c = Conv(features, v) r = Reshape(c, flat) fine = Transpose<perm = [0, 2, 1]>(r)
            d = Conv(half, v) s = Reshape(d, flat) coarse = Transpose<perm = [0, 2, 1]>(s)""",
        "fine coarse",
        "detection",
    ),
    "centers with sizes and offsets": (
        "float[N, 6, 4, 4] y, float[N, 2, 4, 4] size, float[N, 2, 4, 4] offset",
        f"""{HALF} c = Conv(half, v) y = Sigmoid(c) size = Conv(half, pair) twice = Tanh(half)
            offset = Conv(twice, pair)""",
        "y",
        "detection",
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_heads_of_one_detector_are_pooled(name: str) -> None:
    outputs, body, expected, task = NETS[name]
    model = load(build(outputs, body))
    heads = find_heads(model)
    explained = pooled_heads(model, heads, choose_output(heads).head)
    assert [head.output.name for head in explained] == expected.split()
    assert task_of(model, explained).name == task


@pytest.mark.parametrize(("side", "expected"), [(128, "a1 b1"), (8, "a1")])
def test_coarse_maps_without_boxes_are_pooled(side: int, expected: str) -> None:
    """Maps of raw numbers at strides of 16 and 32 belong to a detector, those of the image do not."""
    stride = side // 8
    body = f"""c = MaxPool<kernel_shape = [{stride}, {stride}], strides = [{stride}, {stride}]>(features)
        half = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(c) a1 = Conv(c, v) b1 = Conv(half, v)"""
    proto = build("float[N, 6, 8, 8] a1, float[N, 6, 4, 4] b1", body)
    for axis in (2, 3):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = side
    model = load(proto)
    heads = find_heads(model)
    explained = pooled_heads(model, heads, choose_output(heads).head)
    assert [head.output.name for head in explained] == expected.split()
