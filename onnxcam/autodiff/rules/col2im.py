"""Col2Im: blocks are added into an image at the positions that they were taken from."""

from __future__ import annotations

import math

import numpy as np

from onnxcam.arrays import Array
from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.slicing import refuse_too_many
from onnxcam.graph.tracing import Value

rules = Rules()


def col2im_vjp(
    g: Value,
    y: Value,
    x: Value,
    image_shape: Value,
    block_shape: Value,
    *,
    dilations: list[int] | None,
    pads: list[int] | None,
    strides: list[int] | None,
) -> Value:
    """Col2Im-18, from x (N, C cells, blocks) to y (N, C, *image): im2col of g.

    im2col is a Conv with one kernel for each cell of a block, which is 1 at that cell and 0 elsewhere.
    """
    block, channels = block_shape.constant, y.shape[1]
    if block is None or not isinstance(channels, int):
        raise ModelError(
            f"the Col2Im that reads {x.name!r} needs a fixed block and a fixed number of channels; "
            "export the model with fixed sizes"
        )
    rank = len(block)
    columns = g.build.op(
        "Conv",
        g,
        g.build.constant(np.tile(_one_hot_kernels(block), (channels, *[1] * (rank + 1))), g.dtype),
        dilations=list(dilations or [1] * rank),
        group=channels,
        kernel_shape=block.tolist(),
        pads=list(pads or [0] * 2 * rank),
        strides=list(strides or [1] * rank),
    )
    return anp.reshape(columns, [0, 0, -1])


def _one_hot_kernels(block: Array) -> Array:
    """(cells, 1, *block): one kernel for each cell."""
    count = math.prod(block.tolist())
    if min(block.tolist()) < 1:
        raise ModelError(
            f"a Col2Im has blocks of size {block.tolist()}, expected 1 or more; correct the model"
        )
    refuse_too_many("a Col2Im", count, count)
    return np.eye(count).reshape(count, 1, *block.tolist())


rules.vjp("Col2Im", col2im_vjp)
