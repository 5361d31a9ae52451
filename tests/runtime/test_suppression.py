"""The one-node model of non-maximum suppression."""

import numpy as np
import onnx.parser

from onnxcam.runtime.suppression import NON_MAX_SUPPRESSION, suppress

TEXT = """<ir_version: 8, opset_import: ["" : 11]>
onnxcam (float[1, P, 4] boxes, float[1, C, P] scores, int64 count, float overlap, float min_score)
=> (int64[K, 3] best) { best = NonMaxSuppression(boxes, scores, count, overlap, min_score) }"""


def test_stored_model_is_non_max_suppression() -> None:
    assert onnx.parser.parse_model(TEXT).SerializeToString() == NON_MAX_SUPPRESSION


def test_suppression_compares_boxes_of_one_class() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]], np.float64)
    scores = np.array([[0.5, 0.6, 0.2], [0.9, 0.1, 0.3]])
    rows = suppress(boxes, scores, count=3, min_score=0.15, overlap=0.5)
    assert rows.tolist() == [[0, 1], [0, 2], [1, 0], [1, 2]]
