"""A model whose layer `features` holds the image itself, so that what is unusual is planted in the image."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from onnxcam.arrays import Floats

CHANNELS, SIDE = 3, 6
ARGUMENTS: dict[str, Any] = {"preprocess": "unit", "device": "cpu", "cache": False}


def plain_model(size: str = f"{SIDE}, {SIDE}") -> bytes:
    """A Relu, the mean of the cells, and a linear layer."""
    text = f"""<ir_version: 8, opset_import: ["": 17]>
    plain (float[N, {CHANNELS}, {size}] image) => (float[N, 4] logits)
    <float[4, {CHANNELS}] w = {{1, 0, 0, 0, 1, 0, 0, 0, 1, 0.1, 0.1, 0.1}}> {{
        features = Relu(image)
        mean = GlobalAveragePool(features)
        flat = Flatten(mean)
        logits = Gemm<transB = 1>(flat, w)
    }}"""
    return onnx.parser.parse_model(text).SerializeToString()


def images(count: int, seed: int = 0, side: int = SIDE) -> Floats:
    """(N, C, h, w) float32: independent numbers in [0, 1), some of them equal."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 200, (count, CHANNELS, side, side)) / 200).astype(np.float32)
