"""A model with an operator that has no gradient rule."""

from __future__ import annotations

import numpy as np
import onnx

from onnxcam.arrays import Floats
from tests.support.nets import BODY, POOLED


def without_rule() -> bytes:
    """Each class's score is the determinant of a feature map."""
    proto = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["": 17]> net (float[N, 3, 8, 8] x) => (float[N, 6] y) {{
        {BODY.format(x="x")} y = Det(features) }}"""
    )
    for name in ("w1", "b1", "w2", "b2"):
        array = onnx.numpy_helper.from_array(POOLED.weights[name], name)
        proto.graph.initializer.append(array)
    return bytes(proto.SerializeToString())


class OfDeterminants:
    """Its twin, as a model of one image."""

    def logits(self, x: Floats) -> Floats:
        logits: Floats = np.linalg.det(POOLED.features(x[None]))[0]
        return logits
