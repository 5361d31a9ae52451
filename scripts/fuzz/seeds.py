"""Small models of many kinds, from which mutations start."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

FIXTURES = Path(__file__).resolve().parents[2] / "tests" / "data"
LARGEST = 20_000  # bytes of a fixture: larger ones take too long for thousands of cases

STEM = """
    c1 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w1, b1)
    r1 = Relu(c1)
    c2 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(r1, w2, b2)
    f = Relu(c2)
"""
POOL = "p = GlobalAveragePool(f) t = Flatten(p) y = Gemm<transB = 1>(t, v, d)"
FLAT = "s = Constant<value_ints = [1, 96]>() t = Reshape(f, s) m = Tanh(t) y = MatMul(m, u)"
NORM = """
    n = BatchNormalization(f, b2, b2, b2, one)
    g = Sigmoid(n)
    h = Mul(n, g)
    m = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(h)
    p = GlobalAveragePool(m)
    t = Flatten(p)
    y = Gemm<transB = 1>(t, v, d)
"""
TOKENS = """
    s = Constant<value_ints = [1, 6, 16]>()
    t = Reshape(f, s)
    q = Transpose<perm = [0, 2, 1]>(t)
    l = LayerNormalization<axis = -1>(q, one)
    a = MatMul(l, t)
    e = Softmax<axis = -1>(a)
    o = MatMul(e, l)
    r = Add(o, q)
    k = ReduceMean<axes = [1], keepdims = 0>(r)
    y = Gemm<transB = 1>(k, v, d)
"""
RESIZE = """
    e = Constant<value_floats = [1.0, 1.0, 2.0, 2.0]>()
    r = Resize<mode = "linear">(f, , e)
    g = HardSwish(r)
    p = GlobalAveragePool(g)
    t = Flatten(p)
    y = Gemm<transB = 1>(t, v, d)
"""
CHOICE = """
    q = Constant<value = bool {1}>()
    g = If (q) <
        then_branch = a () => (float[1, 6, 4, 4] i) { i = Tanh(f) },
        else_branch = b () => (float[1, 6, 4, 4] j) { j = Exp(f) }
    >
    p = GlobalAveragePool(g)
    t = Flatten(p)
    y = Gemm<transB = 1>(t, v, d)
"""
BOXES = """
    a = Conv<kernel_shape = [1, 1]>(f, v1, d)
    s = Constant<value_ints = [1, 5, 16]>()
    b = Reshape(a, s)
    y = Sigmoid(b)
"""
NUMBERS = """
    s = Shape(f)
    i = Constant<value_int = 0>()
    n = Gather(s, i)
    j = Constant<value_ints = [-1]>()
    o = Unsqueeze(n, k0)
    k = Concat<axis = 0>(o, j)
    p = GlobalAveragePool(f)
    t = Reshape(p, k)
    m = Clip(t, lo, hi)
    y = Gemm<transB = 1>(m, v, d)
"""
# name -> shape of the input, outputs, opset, what follows the stem
BODIES: dict[str, tuple[str, str, int, str]] = {
    "pooled": ("N, 3, 8, 8", "float[N, 5] y", 17, POOL),
    "softmax": ("1, 3, 8, 8", "float[1, 5] z", 13, POOL + " z = Softmax<axis = -1>(y)"),
    "old": ("1, 3, 8, 8", "float[1, 5] z", 9, POOL + " z = Softmax<axis = 1>(y)"),
    "sizes": ("N, 3, H, W", "float[N, 5] y", 17, POOL),
    "flat": ("1, 3, 8, 8", "float[1, 5] y", 17, FLAT),
    "norm": ("N, 3, 8, 8", "float[N, 5] y", 17, NORM),
    "tokens": ("1, 3, 8, 8", "float[1, 5] y", 17, TOKENS),
    "resize": ("N, 3, 8, 8", "float[N, 5] y", 18, RESIZE),
    "choice": ("1, 3, 8, 8", "float[1, 5] y", 17, CHOICE),
    "two": ("1, 3, 8, 8", "float[1, 6, 4, 4] e, float[1, 5] y", 17, "e = Tanh(f) " + POOL),
    "dense": ("1, 3, 8, 8", "float[1, 5, 4, 4] y", 17, "y = Conv<kernel_shape = [1, 1]>(f, v1, d)"),
    "boxes": ("1, 3, 8, 8", "float[1, 5, 16] y", 17, BOXES),
    "numbers": ("1, 3, 8, 8", "float[1, 5] y", 17, NUMBERS),
}


def weights() -> dict[str, Any]:
    """The weights that the bodies read, by name."""
    draw = np.random.default_rng(7)
    shapes = {
        "w1": (4, 3, 3, 3),
        "b1": (4,),
        "w2": (6, 4, 3, 3),
        "b2": (6,),
        "v": (5, 6),
        "d": (5,),
    }
    arrays: dict[str, Any] = {}
    arrays |= {
        name: draw.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()
    }
    arrays["u"] = draw.normal(0, 0.2, (96, 5)).astype(np.float32)
    arrays["v1"] = arrays["v"].reshape(5, 6, 1, 1)
    arrays |= {"one": np.ones(6, np.float32), "k0": np.array([0], np.int64)}
    arrays |= {"lo": np.float32(-2), "hi": np.float32(2)}
    return {name: np.asarray(array) for name, array in arrays.items()}


def model_of(name: str) -> onnx.ModelProto:
    """The model of a body."""
    shape, outputs, opset, body = BODIES[name]
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]> {name} (float[{shape}] x) => ({outputs}) '
        f"{{ {STEM} {body} }}"
    )
    read = {tensor for node in proto.graph.node for tensor in node.input}
    for tensor, array in weights().items():
        if tensor in read:
            proto.graph.initializer.append(numpy_helper.from_array(array, tensor))
    return proto


def optimize_by_runtime(content: bytes) -> bytes:
    """The model as ONNX Runtime writes it, with operators of its own."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/model.onnx"
        ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return Path(folder, "model.onnx").read_bytes()


@lru_cache(maxsize=1)
def seed_models() -> dict[str, bytes]:
    """The models by name, always in the same order."""
    models = {name: bytes(model_of(name).SerializeToString()) for name in BODIES}
    for name in ("pooled", "tokens", "norm"):
        models[f"{name} optimized"] = optimize_by_runtime(models[name])
    for path in sorted(FIXTURES.glob("*.onnx")):
        if path.stat().st_size <= LARGEST:
            models[path.stem] = path.read_bytes()
    return models
