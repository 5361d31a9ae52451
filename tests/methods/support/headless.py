"""Models without class scores."""

import onnx

from tests.support.nets import BODY, POOLED

HEAD = '<ir_version: 9, opset_import: ["": 17, "unknown": 1]> net (float[N, 3, 8, 8] x) => '
HEADS = {
    "number of the best class": "int64[N, 1, 4, 4] y) { %s y = ArgMax<axis = 1>(features) }",
    "five axes": """float[N, 6, 2, 2, 4] y) { %s
        s = Constant<value_ints = [-1, 6, 2, 2, 4]>() y = Reshape(features, s) }""",
    "batch second": """float[2, N, 6, 4, 4] y) { %s axis = Constant<value_ints = [0]>()
        a = Unsqueeze(features, axis) y = Concat<axis = 0>(a, a) }""",
}


def headless(text: str) -> bytes:
    """The first layers of the small nets, and a head without class scores."""
    proto = onnx.parser.parse_model(f"{HEAD}({text % BODY.format(x='x')}")
    weights = POOLED.weights
    for name in ("w1", "b1", "w2", "b2"):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weights[name], name))
    return bytes(proto.SerializeToString())
