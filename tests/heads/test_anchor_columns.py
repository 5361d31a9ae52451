"""Raw grids of YOLO, with the numbers of several boxes in the channels of each cell."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcam.dense import DENSE, WHERE
from onnxcam.heads.dense_score import ensure_class_scores
from onnxcam.heads.positions import with_dense_scores
from onnxcam.model.load import load
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from tests.heads.support.nets import build

SIDE = 64  # pixels; the grids have 4 and 2 cells
GRIDS = """p16 = MaxPool<kernel_shape = [16, 16], strides = [16, 16]>(features)
    p32 = MaxPool<kernel_shape = [32, 32], strides = [32, 32]>(features)"""
NAMES = str([f"name {number}" for number in range(4)])


def grid_net(channels: int, *, last: bool, single: bool, batch: str = "N", **metadata: str) -> Any:
    ends = {"fine": ("p16", 4), "coarse": ("p32", 2)}
    body, outputs = GRIDS, []
    for name, (source, cells) in list(ends.items())[: 1 if single else 2]:
        if last:
            body += f" c_{name} = Conv({source}, weights) {name} = Transpose<perm = [0, 2, 3, 1]>(c_{name})"
            outputs.append(f"float[{batch}, {cells}, {cells}, {channels}] {name}")
        else:
            body += f" {name} = Conv({source}, weights)"
            outputs.append(f"float[{batch}, {channels}, {cells}, {cells}] {name}")
    proto: onnx.ModelProto = build(", ".join(outputs), body, batch, **metadata)
    draw = np.random.default_rng(8)
    weights = draw.normal(size=(channels, 4, 1, 1)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weights, "weights"))
    for axis in (2, 3):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = SIDE
    return proto


def expected_scores(grid: Any, anchors: int, *, softmax: bool) -> Any:
    """(N, classes, boxes), box by box, of (N, channels, rows, columns)."""
    channels, rows, columns = grid.shape[1:]
    size = channels // anchors
    boxes = []
    for anchor in range(anchors):
        for row in range(rows):
            for column in range(columns):
                numbers = grid[:, anchor * size : (anchor + 1) * size, row, column].astype(float)
                classes = numbers[:, 5:]
                powers = np.exp(classes - classes.max(axis=1, keepdims=True))
                softened = powers / powers.sum(axis=1, keepdims=True)
                of_class = softened if softmax else 1 / (1 + np.exp(-classes))
                boxes.append(of_class / (1 + np.exp(-numbers[:, 4:5])))
    return np.stack(boxes, axis=2)


@pytest.mark.parametrize(
    ("channels", "labels", "single", "anchors"),
    [(27, None, False, 3), (27, NAMES, False, 3), (27, NAMES, True, 3), (45, NAMES, True, 5)],
)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("batch", ["N", "1"])
def test_scores_of_all_boxes_of_raw_grids(
    channels: int, labels: str | None, single: bool, anchors: int, last: bool, batch: str
) -> None:
    metadata = {"names": labels} if labels else {}
    loaded = load(grid_net(channels, last=last, single=single, batch=batch, **metadata))
    names = ["fine"] if single else ["fine", "coarse"]
    model, score, dense, *_ = with_dense_scores(loaded)
    assert (score.classes, score.probability, dense and dense.task) == (4, True, "detection")
    positions = anchors * (16 if single else 20)
    count = 1 if batch == "1" else 2
    model.graph.outputs.append(model.graph.tensors()[DENSE])
    x = np.random.default_rng(1).normal(size=(count, 3, SIDE, SIDE)).astype(np.float32)
    feeds = {"x": x, WHERE: np.ones((count, 1, positions), np.float32)}
    at_positions, *grids = Session(model.bytes(), Device("cpu"), threads=1).run(
        [DENSE, *names], feeds
    )
    if last:
        grids = [np.moveaxis(grid, 3, 1) for grid in grids]
    expected = [expected_scores(grid, anchors, softmax=anchors == 5) for grid in grids]
    joined = np.sort(np.concatenate(expected, axis=2), axis=2)  # their order is free without boxes
    np.testing.assert_allclose(np.sort(at_positions, axis=2), joined, rtol=2e-4, atol=1e-7)
    assert f"{anchors} boxes per cell, 9 numbers per box" in " ".join(model.notices)
    assert "the form of the boxes is unknown" in " ".join(model.notices)


def test_segmenter_with_auxiliary_map_has_no_anchors() -> None:
    """21 classes at the strides of the image and of its half."""
    proto = build(
        "float[N, 21, 8, 8] y, float[N, 21, 4, 4] aux",
        """half = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(features)
           y = Conv(features, weights) aux = Conv(half, weights)""",
    )
    weights = np.ones((21, 4, 1, 1), np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weights, "weights"))
    assert ensure_class_scores(load(proto))[1].classes == 21
