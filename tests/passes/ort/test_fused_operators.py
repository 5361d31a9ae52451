"""Operators of ONNX Runtime's optimizer, decomposed: the outputs of its own kernels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from onnxcam.graph.operators import CONTRIB
from onnxcam.model.load import load
from onnxcam.passes.decomposition import Stage, decomposed_operators
from onnxcam.passes.ort.registry import NCHWC
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.checked_operators import RECORDED
from tests.passes.ort.support.dropped import EXPERIMENTAL, QUANTIZED
from tests.passes.ort.support.fused_case import (
    Case,
    attention,
    floats,
    gelu,
    group_norm,
    integers,
    run_channels_last_conv,
    skip_group,
    softmax,
)
from tests.passes.support.parsed import run

X = floats(2, 3, 7, 5)
W, B, Z = floats(4, 3, 3, 3), floats(4), floats(2, 4, 5, 3)
A, M = floats(2, 3, 5, 4), floats(2, 3, 4, 6)
ROWS, WIDTH = floats(2, 5, 12), floats(12)
QKV, QB = floats(12, 24), floats(24)
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
NHWC = floats(2, 5, 7, 6)


def conv(activation: str, *numbers: float, inputs: Sequence[Any] = (X, W, B)) -> Case:
    parameters = {"activation_params": list(numbers)} if numbers else {}
    return Case("FusedConv", inputs, {"activation": activation, **parameters})


def weights_of(bits: int, n: int, k: int, block: int) -> list[Any]:
    blocks = -(-k // block)
    return [
        integers(n, blocks, block * bits // 8, dtype=np.uint8),
        abs(floats(n * blocks)) / 10,
        integers(n * -(-blocks * bits // 8), dtype=np.uint8),
    ]


def few_bits(bits: int, zero: bool, bias: bool = False, k: int = 50) -> Case:
    weights, scales, zeros = weights_of(bits, 6, k, 16)
    inputs = [floats(2, 3, k), weights, scales, zeros if zero else None]
    inputs += [None, floats(6)] if bias else []
    return Case(
        "MatMulNBits", inputs, {"K": k, "N": 6, "bits": bits, "block_size": 16}, tolerance=1e-5
    )


CASES = [
    *(conv(activation) for activation in ("Relu", "Tanh", "Sigmoid")),
    conv("LeakyRelu", 0.2),
    conv("Clip", -0.5, 1.5),
    conv("HardSigmoid", 0.3, 0.4),
    conv("Relu", inputs=[X, W]),
    conv("Relu", inputs=[X, W, B, Z]),
    Case(
        "FusedConv",
        [X, floats(6, 1, 3, 2), None, floats(2, 6, 3, 6)],
        {
            "activation": "Relu",
            "group": 3,
            "strides": [2, 1],
            "pads": [1, 1, 0, 1],
            "kernel_shape": [3, 2],
        },
        fed=(0, 3),
    ),
    Case("FusedGemm", [floats(5, 4), floats(4, 3), floats(3)], {"activation": "Relu"}),
    Case(
        "FusedGemm",
        [floats(4, 5), floats(3, 4)],
        {
            "activation": "LeakyRelu",
            "activation_alpha": 0.3,
            "transA": 1,
            "transB": 1,
            "alpha": 0.7,
        },
    ),
    Case(
        "FusedGemm",
        [floats(5, 4), floats(4, 3), floats(5, 3)],
        {
            "activation": "HardSigmoid",
            "activation_alpha": 0.3,
            "activation_beta": 0.4,
            "beta": 2.0,
        },
    ),
    *(
        Case("FusedMatMul", [a, b], attributes, fed=(0, 1))
        for a, b, attributes in (
            (A, M, {"alpha": 0.3}),
            (A.swapaxes(2, 3).copy(), M, {"transA": 1}),
            (A, M.swapaxes(2, 3).copy(), {"transB": 1, "alpha": -2.0}),
            (A.transpose(2, 0, 1, 3).copy(), M, {"transBatchA": 1}),
            (A, M.transpose(2, 0, 1, 3).copy(), {"transBatchB": 1}),
            (A.transpose(3, 0, 1, 2).copy(), M, {"transBatchA": 1, "transA": 1}),
            (floats(4), floats(4, 3), {"alpha": 2.0}),
        )
    ),
    Case("TransposeMatMul", [floats(3, 4, 5), floats(3, 4, 2)], {"transA": 1, "alpha": 0.5}),
    Case(
        "FusedMatMulActivation",
        [floats(3, 4), floats(4, 5)],
        {"activation": "Relu", "alpha": 2.0},
        expected=lambda a, b: np.maximum(2 * a @ b, 0),
    ),
    Case(
        "FusedMatMulActivation",
        [floats(3, 4), floats(4, 5)],
        {"activation": "Softmax", "activation_axis": -1},
        expected=lambda a, b: softmax(a @ b),
    ),
    *(few_bits(bits, zero) for bits in (2, 4, 8) for zero in (False, True)),
    few_bits(4, True, bias=True, k=64),
    Case("Gelu", [X]),
    Case("BiasGelu", [ROWS, WIDTH]),
    Case("FastGelu", [ROWS]),
    Case("FastGelu", [ROWS, WIDTH]),
    Case("QuickGelu", [X]),
    Case("QuickGelu", [X], {"alpha": 1.0}),
    Case(
        "GemmFastGelu",
        [ROWS, QKV, QB],
        expected=lambda x, w, b: (
            (x @ w + b)
            * 0.5
            * (1 + np.tanh(np.sqrt(2 / np.pi) * ((x @ w + b) + 0.044715 * (x @ w + b) ** 3)))
        ),
    ),
    Case(
        "BiasSplitGelu",
        [ROWS, WIDTH],
        expected=lambda x, b: (x + b)[..., :6] * gelu((x + b)[..., 6:]),
    ),
    Case("BiasAdd", [ROWS, WIDTH, floats(2, 5, 12)], expected=lambda x, b, s: x + b + s),
    Case("BiasDropout", [ROWS, WIDTH], expected=lambda x, b: x + b),
    Case(
        "BiasDropout",
        [ROWS, WIDTH, floats(2, 5, 12), np.float32(0.5), np.bool_(False)],
        {"seed": 3},
        expected=lambda x, b, r, *_: x + b + r,
    ),
    Case(
        "BiasSoftmax",
        [floats(2, 3, 5, 5), floats(2, 1, 1, 5)],
        {"axis": 3, "is_inner_broadcast": 1},
        expected=lambda x, b: softmax(x + b),
    ),
    Case("LayerNormalization", [ROWS, WIDTH, floats(12)], {"axis": -1}, (0, 1, 2), "", (13,)),
    Case("LayerNormalization", [X, floats(7, 5)], {"axis": 2, "epsilon": 0.1}, (0,), "", (11,)),
    Case("SimplifiedLayerNormalization", [ROWS, WIDTH], {}, (0,), ""),
    Case("SimplifiedLayerNormalization", [X, floats(7, 5)], {"axis": 2}, (0, 1), ""),
    Case("SkipLayerNormalization", [ROWS, floats(2, 5, 12), WIDTH], {"epsilon": 1e-3}, (0, 3)),
    Case("SkipLayerNormalization", [ROWS, floats(5, 12), WIDTH, floats(12), floats(12)]),
    Case("SkipLayerNormalization", [ROWS, floats(1, 5, 12), WIDTH, None, floats(12)]),
    Case("SkipSimplifiedLayerNormalization", [ROWS, floats(2, 5, 12), WIDTH]),
    Case(
        "SkipSimplifiedLayerNormalization",
        [ROWS, floats(2, 5, 12), WIDTH, floats(12)],
        {"epsilon": 1e-3},
        (0, 3),
    ),
    Case("GroupNorm", [NHWC, floats(6), floats(6)], {"groups": 2}, expected=group_norm),
    Case(
        "GroupNorm",
        [NHWC, floats(6), floats(6)],
        {"groups": 3, "activation": 1},
        expected=lambda x, g, b: group_norm(x, g, b, 3, silu=True),
    ),
    Case(
        "GroupNorm",
        [NHWC.transpose(0, 3, 1, 2).copy(), floats(6), floats(6)],
        {"groups": 2, "channels_last": 0},
        expected=lambda x, g, b: np.moveaxis(group_norm(np.moveaxis(x, 1, -1), g, b), -1, 1),
    ),
    Case(
        "SkipGroupNorm",
        [NHWC, floats(6), floats(6), floats(2, 5, 7, 6), floats(6)],
        {"groups": 2},
        (0, 1),
        expected=skip_group,
    ),
    Case(
        "Attention", [ROWS, QKV[:, :18], QB[:18]], {"num_heads": 3, "qkv_hidden_sizes": [6, 6, 6]}
    ),
    Case("Attention", [ROWS, QKV, QB], {"num_heads": 2, "scale": 0.2}),
    Case("Attention", [ROWS, QKV, QB, MASK], {"num_heads": 2}),
    Case("Attention", [ROWS, QKV, QB], {"num_heads": 2, "unidirectional": 1}),
    Case(
        "Attention",
        [ROWS, QKV[:, :20], QB[:20], None, None, floats(2, 2, 5, 5)],
        {"num_heads": 2, "qkv_hidden_sizes": [8, 8, 4]},
    ),
    Case("MultiHeadAttention", [ROWS] * 3, {"num_heads": 3}),
    Case(
        "MultiHeadAttention",
        [ROWS, floats(2, 4, 12), floats(2, 4, 18), floats(42)],
        {"num_heads": 3, "scale": 0.5},
        fed=(0, 1, 2),
    ),
    Case(
        "MultiHeadAttention",
        [ROWS, floats(2, 5, 12), floats(2, 5, 12), None, MASK],
        {"num_heads": 3, "mask_filter_value": -50.0},
    ),
    Case(
        "MultiHeadAttention",
        [ROWS, floats(2, 5, 12), floats(2, 5, 12), None, None, floats(1, 3, 5, 5)],
        {"num_heads": 3, "unidirectional": 1},
    ),
    Case(
        "MultiHeadAttention",
        [floats(2, 5, 3, 3, 4)],
        {"num_heads": 3},
        expected=lambda x: attention(*(x[:, :, :, i] for i in range(3))),
        rank=3,
    ),
    Case(
        "MultiHeadAttention",
        [ROWS, floats(2, 4, 3, 2, 4)],
        {"num_heads": 3},
        expected=lambda q, x: attention(q.reshape(2, 5, 3, 4), x[:, :, :, 0], x[:, :, :, 1]),
    ),
    Case(
        "MultiHeadAttention",
        [ROWS, floats(2, 3, 4, 4), floats(2, 3, 4, 4)],
        {"num_heads": 3},
    ),
    Case("NhwcMaxPool", [integers(2, 6, 7, 4)], {"kernel_shape": [3, 2], "strides": [2, 1]}),
    Case("NhwcFusedConv", [NHWC, floats(4, 6, 3, 3), B], expected=run_channels_last_conv),
    Case(
        "NhwcFusedConv",
        [NHWC, floats(4, 6, 3, 3), B, floats(2, 3, 5, 4)],
        {"activation": "Relu"},
        expected=lambda x, w, b, z: np.maximum(run_channels_last_conv(x, w, b) + z, 0),
    ),
    Case(
        "NhwcConv",
        [NHWC, floats(4, 3, 3, 6)],
        expected=lambda x, w: run_channels_last_conv(x, np.moveaxis(w, -1, 1).copy()),
    ),
    Case(
        "MatMulIntegerToFloat",
        [
            integers(5, 4, dtype=np.uint8),
            integers(4, 3),
            np.float32(0.1),
            floats(3),
            np.uint8(7),
            np.int8(3),
        ],
    ),
    Case(
        "MatMulIntegerToFloat",
        [
            integers(5, 4, dtype=np.uint8),
            integers(4, 3),
            np.float32(0.1),
            floats(1),
            None,
            None,
            floats(3),
        ],
    ),
    Case("DynamicQuantizeMatMul", [ROWS, integers(12, 3), floats(1), np.int8(4), floats(3)]),
    Case("DynamicQuantizeMatMul", [ROWS, integers(12, 3), floats(3)]),
    Case(
        "ReorderOutput", [floats(1, 16, 2, 3)], {"channels": 16}, domain=NCHWC, expected=lambda x: x
    ),
    *EXPERIMENTAL,
    *QUANTIZED,
]


def twin_outputs(case: Case) -> list[Any]:
    assert case.expected is not None
    outputs = case.expected(*(array for array in case.inputs if array is not None))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return [output.astype(np.float32) for output in outputs]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_decomposition_equals_the_fused_kernel(case: Case) -> None:
    for opset in case.opsets:
        original = case.model(opset)
        feed = case.feed()
        expected = run(original, **feed) if case.expected is None else twin_outputs(case)
        loaded = load(original)
        assert not any(node.domain for node in loaded.graph.nodes if node.domain != "onnxcam")
        assert [output.name for output in loaded.graph.outputs] == [f"o{i}" for i in case.outputs]
        for actual, fused in zip(run(loaded.proto(), **feed), expected, strict=True):
            assert actual.dtype == fused.dtype
            assert actual.shape == fused.shape
            scale = max(1.0, float(np.abs(fused).max()))
            assert np.abs(actual.astype(np.float64) - fused).max() <= case.tolerance * scale


def test_cases_cover_every_operator() -> None:
    """But for convolutions of blocks of channels and of integers, which are in test_optimized_models.py."""
    operators = {name for domain, name in decomposed_operators(Stage.LOADING) if domain == CONTRIB}
    assert operators - {"QLinearConv"} <= {case.operator for case in CASES}


STEP = 5e-4  # small enough that no Relu of these cases changes sides, large enough for float32
ROUNDED = {
    "DynamicQuantizeLSTM",
    "DynamicQuantizeMatMul",
}  # the runtime rounds its inputs: differences measure the steps


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in CASES
        if np.asarray(case.inputs[0]).dtype == np.float32 and case.operator not in ROUNDED
    ],
    ids=str,
)
def test_gradient_matches_differences_of_the_fused_operator(case: Case) -> None:
    """Central differences of the runtime's own kernel in float32, so to within 1 % only."""
    original, feed = case.model(case.opsets[-1]), case.feed()
    wrt, output = list(feed), f"o{case.outputs[0]}"
    fed = set(case.fed)

    def value(step: float, directions: dict[str, Any]) -> Any:
        moved = {name: feed[name] + np.float32(step) * directions[name] for name in feed}
        if case.expected is None:
            return run(original, **moved)[0].astype(np.float64)
        inputs = [moved[f"i{i}"] if i in fed else x for i, x in enumerate(case.inputs)]
        outputs = case.expected(*(x for x in inputs if x is not None))
        return np.asarray(outputs[0] if isinstance(outputs, list) else outputs, np.float64)

    cotangent = floats(*value(0, feed).shape)
    augmented = gradient(load(original), wrt, output).proto()
    names = [tensor.name for tensor in augmented.graph.output]
    results = dict(zip(names, run(augmented, **feed, **{SEED: cotangent}), strict=True))
    gradients = {name: results[f"gradient/{name}"] for name in wrt}
    norm = float(np.sqrt(sum(np.sum(g.astype(np.float64) ** 2) for g in gradients.values())))
    assert norm > 0
    for seed in range(4):  # along the gradient itself, and along random directions
        draw = np.random.default_rng(seed)
        directions = {
            name: draw.normal(size=g.shape).astype(np.float32) / np.float32(np.sqrt(g.size))
            if seed
            else g / np.float32(norm)
            for name, g in gradients.items()
        }
        change = value(STEP, directions) - value(-STEP, directions)
        measured = float(np.sum(change * cotangent)) / (2 * STEP)
        written = sum(float(np.sum(g * directions[name])) for name, g in gradients.items())
        assert abs(written - measured) <= 0.01 * norm
    RECORDED.add(f"{CONTRIB}::{case.operator}")


@pytest.mark.parametrize("case", QUANTIZED, ids=str)
def test_gradient_of_quantized_lstm_is_that_of_an_lstm_of_its_weights(case: Case) -> None:
    """Straight through the rounding of the inputs: the gates are those of the rounded ones."""
    original, feed = case.model(17), case.feed()
    x, w, r, bias, *_, w_scale, w_zero, r_scale, r_zero = case.inputs
    weights = [
        (values.astype(np.float32) - zero.astype(np.float32).reshape(len(values), 1, -1))
        * scale.reshape(len(values), 1, -1)
        for values, scale, zero in ((w, w_scale, w_zero), (r, r_scale, r_zero))
    ]
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    step = (high - low) / 255
    zero = np.rint(-low / step)
    rounded = ((np.clip(np.rint(x / step) + zero, 0, 255) - zero) * step).astype(np.float32)
    inputs = [rounded, *(weight.swapaxes(1, 2) for weight in weights), bias]
    plain = Case("LSTM", inputs, case.attributes, domain="", rank=4).model(17)
    gradients = []
    for proto, image in ((original, x), (plain, rounded)):
        augmented = gradient(load(proto), ["i0"], "o0").proto()
        names = [tensor.name for tensor in augmented.graph.output]
        seed = floats(len(x), len(w), x.shape[1], r.shape[1])
        results = run(augmented, i0=image, **{SEED: seed})
        gradients.append(results[names.index("gradient/i0")])
    computed, expected = gradients
    assert feed["i0"] is x
    np.testing.assert_allclose(computed, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
