"""Rectifiers as operators, and as exporters write them in several nodes."""

import onnx

from tests.autodiff.support.bent import written

CONSTANTS = """float zero = {0.0}, float half = {0.5}, float one = {1.0}, float three = {3.0},
    float six = {6.0}, float sixth = {0.16666667}, float root = {1.4142135}, float fold = {0.70710677},
    float cube = {3.0}, float cubic = {0.044715}, float scale = {0.79788456},
    float[4, 1, 1] slope = {0.1, 0.2, 0.3, 0.4}"""

OPERATORS = {  # name: text, opset
    "relu": ("y = Relu(x)", 17),
    "leaky relu": ("y = LeakyRelu<alpha = 0.2>(x)", 17),
    "prelu": ("y = PRelu(x, slope)", 17),
    "relu6": ("y = Clip(x, zero, six)", 17),
    "thresholded relu": ("y = ThresholdedRelu<alpha = 0.5>(x)", 17),
    "elu": ("y = Elu(x)", 17),
    "selu": ("y = Selu(x)", 17),
    "celu": ("y = Celu(x)", 17),
    "softplus": ("y = Softplus(x)", 17),
    "hardswish": ("y = HardSwish(x)", 17),
    "mish": ("y = Mish(x)", 18),
    "gelu": ("y = Gelu(x)", 20),
    "gelu by tanh": ('y = Gelu<approximate = "tanh">(x)', 20),
    "silu": ("s = Sigmoid(x) y = Mul(x, s)", 17),
}

SPELLINGS = {  # of an operator: the same function in several nodes
    ("relu", "max"): "y = Max(x, zero)",
    ("relu6", "max, min"): "a = Max(zero, x) y = Min(a, six)",
    ("relu6", "min, max"): "a = Min(x, six) y = Max(a, zero)",
    ("relu6", "relu, min"): "a = Relu(x) y = Min(a, six)",
    ("silu", "other order"): "s = Sigmoid(x) y = Mul(s, x)",
    ("hardswish", "hard sigmoid"): "h = HardSigmoid<alpha = 0.16666667>(x) y = Mul(x, h)",
    ("hardswish", "clip"): "a = Add(x, three) b = Clip(a, zero, six) c = Div(b, six) y = Mul(x, c)",
    (
        "hardswish",
        "clip, late",
    ): "a = Add(x, three) b = Clip(a, zero, six) c = Mul(x, b) y = Mul(c, sixth)",
    (
        "hardswish",
        "max, min",
    ): "a = Add(x, three) b = Max(a, zero) c = Min(b, six) d = Mul(c, sixth) y = Mul(d, x)",
    (
        "hardswish",
        "relu, min",
    ): "a = Add(three, x) b = Relu(a) c = Min(b, six) d = Mul(x, c) y = Div(d, six)",
    (
        "hardswish",
        "min, max",
    ): "a = Add(x, three) b = Min(a, six) c = Max(b, zero) d = Div(c, six) y = Mul(d, x)",
    ("mish", "softplus"): "s = Softplus(x) t = Tanh(s) y = Mul(x, t)",
    ("gelu", "torch"): "a = Div(x, root) e = Erf(a) b = Add(e, one) c = Mul(x, b) y = Mul(c, half)",
    (
        "gelu",
        "half first",
    ): "h = Mul(x, half) a = Mul(x, fold) e = Erf(a) b = Add(one, e) y = Mul(h, b)",
    (
        "gelu",
        "half of the gate",
    ): "a = Mul(x, fold) e = Erf(a) b = Add(e, one) c = Mul(b, half) y = Mul(c, x)",
    (
        "gelu by tanh",
        "pow",
    ): """p = Pow(x, cube) a = Mul(p, cubic) b = Add(x, a) c = Mul(b, scale) t = Tanh(c)
        d = Add(t, one) e = Mul(x, d) y = Mul(e, half)""",
    ("gelu by tanh", "products"): """q = Mul(x, x) p = Mul(x, q) a = Mul(p, cubic) b = Add(x, a)
        c = Mul(b, scale) t = Tanh(c) d = Add(one, t) h = Mul(half, x) y = Mul(h, d)""",
}

OTHERS = {  # no rectifiers
    "sigmoid": "y = Sigmoid(x)",
    "hard sigmoid": "a = Add(x, three) b = Clip(a, zero, six) y = Div(b, six)",
    "clip around zero": "a = Neg(one) y = Clip(x, a, one)",
    "maximum of two": "a = Sin(x) y = Max(x, a)",
    "square": "y = Mul(x, x)",
    "gated by another": "m = ReduceMean<axes = [2, 3]>(x) s = Sigmoid(m) y = Mul(x, s)",
    "gated linear unit": "a, b = Split<axis = 1>(x) s = Sigmoid(b) y = Mul(a, s)",
    "even": "t = Tanh(x) y = Mul(x, t)",
    "clipped around zero": "a = Neg(one) b = Clip(x, a, one) y = Mul(x, b)",
    "falling gate": "n = Neg(one) a = Mul(x, n) s = Sigmoid(a) b = Mul(s, n) y = Mul(x, b)",
}


def operator(name: str) -> onnx.ModelProto:
    """The model of one rectifier."""
    text, opset = OPERATORS[name]
    return written(text, opset, constants=CONSTANTS)


def several_nodes(text: str) -> onnx.ModelProto:
    """The model of some nodes."""
    return written(text, 17, constants=CONSTANTS)
