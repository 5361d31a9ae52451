"""Noise that is added where the model runs: what is drawn can stay there, for the pictures to come too."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import cast_saturating, is_integer
from onnxcam.graph.tracing import Builder
from onnxcam.rewrite.loss_scale import accumulation_dtype
from onnxcam.specs import NOISE, SPREAD

PICTURES = "onnxcam/pictures"  # how many are fed: one for all of the noise, or as many
FLOAT = np.dtype(np.float32)
ROUNDS = 11  # the opset that has Round, for pictures of integers


def add_noise(graph: gs.Graph, image: str) -> None:
    """Let everything read `image + SPREAD * NOISE` instead of the input `image`, in place.

    Two new inputs, float32: NOISE, one array a sample in the picture's shape or one that is broadcast to it,
    and SPREAD, a number. The sum is taken in float32, or float64 for such a picture; where the picture is of
    integers it is rounded and saturated, which takes opset 11.
    """
    build, count = Builder(graph), len(graph.nodes)
    x = build.value(image)
    readers, shape = list(x.tensor.outputs), list(x.shape)
    noise = build.input(NOISE, FLOAT, (shape[0], *[None] * len(shape[1:])))
    spread = build.input(SPREAD, FLOAT, ())
    x.tensor.shape = [PICTURES, *shape[1:]]
    wide = FLOAT if is_integer(x.dtype) else accumulation_dtype(x.dtype)
    total = x.astype(wide) + (noise * spread).astype(wide)
    noisy = cast_saturating(total, x.dtype).tensor
    noisy.shape = shape
    for node in readers:
        node.inputs = [noisy if each is x.tensor else each for each in node.inputs]
    graph.nodes[:] = [*graph.nodes[count:], *graph.nodes[:count]]
