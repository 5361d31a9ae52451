"""Experimental operators that ONNX has dropped, and LSTMs that ONNX Runtime quantizes, as cases."""

from typing import Any

import numpy as np

from tests.passes.ort.support.fused_case import Case, floats, integers

IMAGE = floats(2, 3, 7, 5)[:, ::-1].copy()  # another one than the cotangent of the test


def dropped(operator: str, **attributes: Any) -> Case:
    opsets = (7, 8) if operator == "MeanVarianceNormalization" else (7, 9)  # ONNX has it since 9
    return Case(operator, [IMAGE], attributes, domain="", opsets=opsets)


EXPERIMENTAL = [
    dropped("ImageScaler", scale=0.5, bias=[1.0, -2.0, 0.25]),
    dropped("ImageScaler", bias=[1.0, -2.0, 0.25]),
    dropped("Crop", border=[1, 2, 0, 3]),
    dropped("Crop", border=[0, 0, 0, 0]),
    dropped("Crop", border=[1, 2, 0, 0], scale=[3, 2]),
    dropped("Crop", border=[1, 2, 1, 1], scale=[5, 4]),
    dropped("Affine", alpha=2.0, beta=-0.5),
    dropped("Affine"),
    dropped("Scale", scale=-3.0),
    dropped("Scale"),
    dropped("ScaledTanh", alpha=2.0, beta=0.5),
    dropped("ParametricSoftplus", alpha=2.0, beta=-0.5),
    dropped("ThresholdedRelu", alpha=0.3),
    dropped("ThresholdedRelu"),
    dropped("MeanVarianceNormalization"),
    dropped("MeanVarianceNormalization", across_channels=1),
    dropped("MeanVarianceNormalization", normalize_variance=0),
    dropped("MeanVarianceNormalization", across_channels=1, normalize_variance=0),
]

STEPS, WIDTH, HIDDEN = 6, 12, 16


def quantized_lstm(
    directions: int, *, scales: int = 1, dtype: Any = np.int8, batch: int = 1, **attributes: Any
) -> Case:
    """An LSTM of 8-bit weights; of several outputs, the state h after every step is the first."""
    gates, shape = 4 * HIDDEN, (directions,) if scales == 1 else (directions, scales)
    weights = [integers(directions, rows, gates, dtype=dtype) for rows in (WIDTH, HIDDEN)]
    zero = np.full(shape, 120 if dtype == np.uint8 else 0, dtype)
    scale = np.abs(floats(*shape)) / 400 + np.float32(0.001)
    inputs = [floats(STEPS, batch, WIDTH), *weights, floats(directions, 8 * HIDDEN) / 10]
    inputs += [None, None, None, None, scale, zero, scale, zero]
    direction = "bidirectional" if directions == 2 else "forward"
    return Case(
        "DynamicQuantizeLSTM",
        inputs,
        {"hidden_size": HIDDEN, "direction": direction, **attributes},
        tolerance=8e-3,  # the state h is rounded to 8 bits before every step, which adds up
        rank=4,
    )


QUANTIZED = [
    quantized_lstm(1),
    quantized_lstm(2),
    quantized_lstm(2, scales=4 * HIDDEN),
    quantized_lstm(1, dtype=np.uint8, batch=2),
]
