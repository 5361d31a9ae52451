"""Col2Im, which puts blocks back where they were taken and adds what overlaps."""

from __future__ import annotations

from onnxcam.arrays import Array
from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph.slicing import refuse_too_many
from onnxcam.graph.value import Value, np

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
    """Each cell of a block takes back what lies where it was put: a Conv with one kernel for each cell of a
    block, which is 1 there. x is (N, C cells, blocks), y (N, C, *image).
    """
    block, channels = block_shape.constant, y.shape[1]
    if block is None or not isinstance(channels, int):
        raise ModelError(f"Col2Im of {x.name!r} needs a fixed block and a fixed number of channels")
    rank = len(block)
    taken = g.build.op(
        "Conv",
        g,
        g.build.constant(np.tile(_cells(block), (channels, *[1] * (rank + 1))), g.dtype),
        dilations=list(dilations or [1] * rank),
        group=channels,
        kernel_shape=block.tolist(),
        pads=list(pads or [0] * 2 * rank),
        strides=list(strides or [1] * rank),
    )
    return np.reshape(taken, [0, 0, -1])


def _cells(block: Array) -> Array:
    """(cells, 1, *block): the kernel of each cell."""
    count = int(np.prod(block))
    if min(block.tolist()) < 1:
        raise ModelError(f"Col2Im of blocks {block.tolist()}: their sizes must be 1 or more")
    refuse_too_many("Col2Im", count, count)
    return np.eye(count).reshape(count, 1, *block.tolist())


rules.vjp("Col2Im", col2im_vjp)
