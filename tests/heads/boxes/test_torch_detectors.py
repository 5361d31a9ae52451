"""Scores and boxes of every form, as both exporters of torch write them, against torch."""

from typing import Any

import numpy as np
import onnx
import pytest

from onnxcam.dense import DENSE, DETECTION
from onnxcam.heads.boxes.decode import decode_boxes
from onnxcam.heads.positions import with_dense_scores
from onnxcam.model.load import load
from tests.autodiff.support.check import run

torch = pytest.importorskip("torch", reason="needs the extra `oracle`")
pytestmark = pytest.mark.oracle

from tests.autodiff.support.torch_export import export  # noqa: E402  it needs torch
from tests.heads.boxes.support import detectors  # noqa: E402

NAMES = {"names": str(dict(enumerate("abcde")))}
HEIGHT, WIDTH = 64, 96
FORMS: dict[
    str, tuple[type, str, dict[str, str]]
] = {  # the detector, the form of its boxes, metadata
    "YOLOv8": (detectors.YoloV8, "centers", {}),
    "YOLOv8 with metadata": (detectors.YoloV8, "centers", {**NAMES, "task": "detect"}),
    "YOLOv10": (detectors.YoloV10, "corners", {}),
    "YOLOv10 with metadata": (detectors.YoloV10, "corners", {**NAMES, "end2end": "True"}),
    "YOLOv5": (detectors.YoloV5, "centers", {}),
    "YOLOv5 before decoding": (detectors.YoloV5Raw, "yolov5-raw", NAMES),
    "YOLOX": (detectors.YoloX, "offsets", {}),
    "YOLOX decoded": (detectors.YoloXDecoded, "centers", {}),
    "YOLO-NAS": (detectors.YoloNas, "corners", {}),
    "PP-YOLOE": (detectors.PpYoloE, "corners", {}),
    "FCOS": (detectors.Fcos, "distances", {}),
    "NanoDet-Plus": (detectors.NanoDetPlus, "bins", {}),
    "PicoDet": (detectors.PicoDet, "bins", {}),
    "SCRFD": (detectors.Scrfd, "scrfd", {}),
    "RetinaFace": (detectors.RetinaFace, "retinaface", {}),
    "YuNet": (detectors.YuNet, "offsets", {}),
    "Ultralytics before decoding": (detectors.UltralyticsRaw, "bins", {**NAMES, "task": "detect"}),
    "YOLOv4": (detectors.YoloV4, "corners", {}),
    "one class": (detectors.OneClass, "centers", {}),
    "DETR": (detectors.Detr, "boxes", {}),
    "RT-DETR": (detectors.RtDetr, "corners", {}),
}
FIXED = ("SCRFD", "YOLOv4")  # detectors of one image, or of one size
DYNAMO = ("YOLOv10",)


def load_detector(detector: Any, sizes: str, metadata: dict[str, str]) -> Any:
    x = torch.zeros(1, 3, HEIGHT, WIDTH)
    count = len(detector.answer(x).outputs)
    names = detector.names or [f"output{index}" for index in range(count)]
    proto = export(detector, x, "fixed" if sizes == "dynamo" else sizes, sizes == "dynamo", names)
    onnx.helper.set_model_props(proto, metadata)
    return load(proto)


def answers(model: Any, x: Any) -> tuple[Any, Any, Any]:
    """What the model's scores are, their values, and the boxes."""
    model, _, dense, *_ = with_dense_scores(model)
    assert dense is not None
    assert dense.boxes is not None
    model = model.copy()
    graph = model.graph
    tensors = graph.tensors()
    names = [DENSE, *dense.boxes.tensors]
    graph.outputs = [tensors[name] for name in names]
    graph.cleanup(remove_unused_graph_inputs=True)
    arrays = dict(
        zip(names, run(model.proto(), {graph.inputs[0].name: x.numpy()}, names), strict=True)
    )
    return dense, arrays[DENSE], decode_boxes(dense.boxes, arrays, (x.shape[2], x.shape[3]))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        *((name, "fixed") for name in FORMS),
        *((name, "size") for name in FORMS if name not in FIXED),
        *((name, "dynamo") for name in DYNAMO),
    ],
)
def test_scores_and_boxes_are_those_of_torch(name: str, sizes: str) -> None:
    kind, form, metadata = FORMS[name]
    detector = kind().eval()
    model = load_detector(detector, sizes, metadata)
    shape = (2, 3, WIDTH, 2 * WIDTH) if sizes == "size" else (1, 3, HEIGHT, WIDTH)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        _, scores, boxes = detector.answer(x)
    dense, actual_scores, actual_boxes = answers(model, x)
    assert (dense.task, dense.boxes.form) == (DETECTION, form)
    np.testing.assert_allclose(actual_scores, scores.transpose(1, 2), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(actual_boxes, boxes, rtol=1e-4, atol=1e-3)
