"""Add noise to the image inside the model, so that noise can stay on the device for the next images."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.arrays import FLOAT32, cast_saturating, is_integer
from onnxcam.graph.tracing import Builder
from onnxcam.rewrite.loss_scale import accumulation_dtype
from onnxcam.specs import NOISE, SPREAD

IMAGES = "onnxcam/images"  # the number of images: one for all samples of noise, or one per sample
ROUND_OPSET = 11  # the first opset with Round, which images of integers need


def add_noise(graph: gs.Graph, image: str) -> None:
    """Replace the input `image` by `image + SPREAD * NOISE` for all its readers, in place.

    Adds two float32 inputs: NOISE, one array per sample, in the image's shape or broadcast to it, and SPREAD, a
    number. The sum is computed in float32, or in float64 for float64 images; for images of integers it is
    rounded and saturated, which needs opset 11.
    """
    build, count = Builder(graph), len(graph.nodes)
    x = build.value(image)
    readers, shape = list(x.tensor.outputs), list(x.shape)
    noise = build.input(NOISE, FLOAT32, (shape[0], *[None] * len(shape[1:])))
    spread = build.input(SPREAD, FLOAT32, ())
    x.tensor.shape = [IMAGES, *shape[1:]]
    wide = FLOAT32 if is_integer(x.dtype) else accumulation_dtype(x.dtype)
    total = x.astype(wide) + (noise * spread).astype(wide)
    noisy = cast_saturating(total, x.dtype).tensor
    noisy.shape = shape
    for node in readers:
        node.inputs = [noisy if tensor is x.tensor else tensor for tensor in node.inputs]
    graph.nodes[:] = [*graph.nodes[count:], *graph.nodes[:count]]
