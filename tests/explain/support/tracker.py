"""A small tracker: a template, a search image, and sizes."""

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


def tracker(template: str = "1, 3, 4, 4", search: str = "N, 3, 8, 8") -> bytes:
    """Scores of the search image, scaled by what is in the template."""
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]>
        net (float[{template}] template, float[{search}] search, int64[2] sizes) => (float[N, 5] scores) {{
            t = Conv(template, k) m = GlobalAveragePool(t)
            s = Conv<pads = [1, 1, 1, 1]>(search, k) maps = Relu(s)
            weighted = Mul(maps, m) p = GlobalAveragePool(weighted) f = Flatten(p)
            logits = MatMul(f, v) c = Cast<to = 1>(sizes) z = ReduceSum<keepdims = 0>(c, zero)
            scores = Mul(logits, z)
        }}"""
    )
    draw = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "k": draw.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "v": draw.normal(size=(4, 5)).astype(np.float32),
        "zero": np.array([0]),
    }
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    return bytes(proto.SerializeToString())
