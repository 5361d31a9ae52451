"""Which numbers are taken for boxes, and what a user says about them."""

import subprocess
import sys

import pytest

from onnxcam.dense import Columns
from onnxcam.errors import UnknownNameError
from onnxcam.heads.boxes.find import find_boxes
from onnxcam.heads.output_choice import choose_output
from onnxcam.heads.positions import with_dense_scores
from onnxcam.heads.score import find_heads
from onnxcam.model.load import load
from onnxcam.model.model import Model
from tests.heads.support.nets import build

SCORES = """r = Conv(features, v) f = Reshape(r, flat) t = Transpose<perm = [0, 2, 1]>(f) scores = Sigmoid(t)
    g = Conv(features, box) h = Reshape(g, flat) raw = Transpose<perm = [0, 2, 1]>(h)"""
OUTPUTS = "float[N, 64, 6] scores, float[N, 64, 4] boxes"
BODIES = {  # how boxes are computed, and their form; a cell is one pixel, which no detector has
    "raw": ("boxes = Identity(raw)", None),
    "corners": (
        """low, high = Split<axis = 2>(raw) p = Sub(low, high) q = Add(low, high)
        boxes = Concat<axis = 2>(p, q)""",
        "corners",
    ),
    "corner and size": (
        "low, size = Split<axis = 2>(raw) b = Add(low, size) boxes = Concat<axis = 2>(low, b)",
        "boxes",
    ),
    "centers": (
        """low, high = Split<axis = 2>(raw) p = Add(low, high) q = Sub(high, low)
        half = Constant<value_float = 0.5>() c = Mul(p, half) boxes = Concat<axis = 2>(c, q)""",
        "centers",
    ),
    "unknown": ("boxes = CumSum(raw, axis)", "boxes"),
}


def make_detector(name: str, **metadata: str) -> Model:
    return load(build(OUTPUTS, f"{SCORES} {BODIES[name][0]}", **metadata))


@pytest.mark.parametrize("name", BODIES)
def test_operators_tell_the_form(name: str) -> None:
    model = make_detector(name)
    boxes = find_boxes(model, [choose_output(find_heads(model)).head])
    assert (boxes.form if boxes else None) == BODIES[name][1]
    if boxes is not None:
        assert boxes.columns == (Columns("boxes", 2, 0, 4),)


def test_unknown_form_is_reported() -> None:
    model, _, dense, *_ = with_dense_scores(make_detector("raw"))
    assert dense is not None
    assert dense.boxes is None
    assert any("the form of the boxes is unknown" in notice for notice in model.notices)


def test_user_names_form_and_tensor() -> None:
    model = make_detector("raw")
    heads = [choose_output(find_heads(model)).head]
    boxes = find_boxes(model, heads, name="boxes", head="yolov8")
    assert boxes is not None
    assert (boxes.form, boxes.tensors, boxes.assumed) == ("centers", ("boxes",), "")
    with pytest.raises(UnknownNameError, match="no tensor 'boxs'"):
        find_boxes(model, heads, name="boxs")
    with pytest.raises(UnknownNameError, match="form of boxes 'yolov88'"):
        find_boxes(model, heads, head="yolov88")


def test_boxes_are_decoded_without_onnx() -> None:
    """Plans of the cache are run without importing onnx, which takes long."""
    script = """import sys, onnxcam.heads.boxes.decode, onnxcam.heads.boxes.suppression
print([name for name in ("onnx", "onnx_graphsurgeon") if name in sys.modules])"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
