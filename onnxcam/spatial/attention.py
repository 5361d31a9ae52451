"""The attention matrices of a model: a Softmax over tokens, whose result is multiplied by the values of tokens.

They are recognized by what their axes hold (see `axis_flow`), not by names or shapes. Both axes of tokens hold
the same grid of cells, perhaps with class tokens around it:

    (N, 12, 197, 197)   nN  c12  1+(y14·x14)+0  1+(y14·x14)+0     a head in an axis of its own
    (?, 197, 197)       nN·c12   1+(y14·x14)+0  1+(y14·x14)+0     heads beside the images
    (?, 4, 64, 64)      nN·y2·x2  c4  y8/2·x8/2  y8/2·x8/2        MobileViT: one pixel of every patch
    (?, 3, 49, 49)      nN·y8/7·x8/7  c3  y7·x7  y7·x7            Swin: windows, not the complete grid

Attention of one set of tokens to another (class attention, pooling, reduced keys) has no square matrix and is
left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError
from onnxcam.graph.attributes import argument
from onnxcam.graph.reachability import Subgraph, carries_floats, subgraph_between
from onnxcam.methods.place import AttentionMatrices, AttentionMatrix, unchanged
from onnxcam.model.model import Model
from onnxcam.spatial.attention_products import AttentionProduct, attention_products
from onnxcam.spatial.axes import (
    BATCH,
    MOVED,
    Axes,
    Axis,
    TokenGrid,
    grid_of_tokens,
    holds_cells,
    is_within_cells,
    kinds,
    size_of,
)
from onnxcam.spatial.axis_flow import AxisFlow
from onnxcam.spatial.block_outputs import block_outputs
from onnxcam.spatial.layers import path_to_score
from onnxcam.spatial.token_mixing import mixes_positions
from onnxcam.spatial.token_readers import tokens_read

SOFTMAX_AXIS = 13  # the opset since which Softmax is over one axis, not over all from it on


@dataclass(frozen=True)
class _Square:
    """An attention matrix of tokens with themselves.

    tensor: the result of the Softmax; `query` and `key` are its axes of tokens.
    mixed: what comes out of the product with the values.
    grid: None if the tokens are not the complete grid of the image.
    """

    tensor: gs.Tensor
    axes: Axes
    query: int
    key: int
    mixed: gs.Tensor
    grid: TokenGrid | None


def attention_matrices(model: Model, image: str, score: str) -> AttentionMatrices:
    """The last attention matrices of a model that follow each other over one grid. ModelError says why there
    are none.
    """
    path, flow, _ = path_to_score(model, image, score)
    products = [*attention_products(path)]
    squares = [*_squares(products, flow)]
    if not squares:
        raise ModelError(
            "no attention among the cells of the image was found (a Softmax over tokens, whose result "
            "multiplies the values of these tokens)"
        )
    grids = [_sizes_of_grid(square) for square in squares]
    start = next(i for i in range(len(grids)) if len({*grids[i:]}) == 1)
    chain = squares[start:]
    _require_sequence(model.graph, squares, score)
    names = [square.tensor.name for square in chain]
    outputs = block_outputs(model.graph, names, score)
    return AttentionMatrices(
        [
            AttentionMatrix(square.tensor.name, _arrangement(square, _count(grids[-1])), output)
            for square, output in zip(chain, outputs, strict=True)
        ],
        [name for row in products if (name := row.softmax.outputs[0].name) not in names],
        *grids[-1],
        read=_tokens_read(path, flow, chain[-1], _count(grids[-1])),
    )


def _squares(products: Sequence[AttentionProduct], flow: AxisFlow) -> Iterator[_Square]:
    """The attention among the cells of the image, or some of them, with itself."""
    for softmax, product, slot in products:
        tensor = softmax.outputs[0]
        axes = flow.axes_of(tensor) or ()
        key = _softmax_axis(softmax, flow.opset)
        query = next((i for i, axis in enumerate(axes) if i != key and axis == axes[key]), None)
        if query is None or not holds_cells(axes[key]) or not mixes_positions(flow, product, slot):
            continue
        others = [axis for i, axis in enumerate(axes) if i not in (query, key)]
        grid = None if any(map(_divides_grid, others)) else grid_of_tokens(axes[key])
        yield _Square(tensor, axes, query, key, product.outputs[0], grid)


def _divides_grid(axis: Axis) -> bool:
    """Whether an axis beside tokens holds cells, so that these tokens are in windows, or within a cell."""
    return MOVED in kinds(axis) or (holds_cells(axis) and not is_within_cells(axis))


def _softmax_axis(node: gs.Node, opset: int) -> int:
    """The axis that a Softmax normalizes, counted from the first."""
    rank = len(node.outputs[0].shape)
    axis = int(argument(node, "axis", opset)) % rank
    return axis if opset >= SOFTMAX_AXIS else rank - 1


def _sizes_of_grid(square: _Square) -> tuple[int, int, int, int]:
    """The tokens before the cells, rows, columns, and tokens after them. ModelError if the tokens are not the
    complete grid of the image, or their number is not fixed.
    """
    matrix = f"the attention {square.tensor.name!r} {tuple(square.tensor.shape)}"
    if square.grid is None:
        raise ModelError(
            f"{matrix} is not among all cells of the image in their order, but within windows or other parts "
            "of it, or among cells that were moved"
        )
    before, height, width, after = square.grid
    if not isinstance(height, int) or not isinstance(width, int):
        raise ModelError(
            f"the number of tokens of {matrix} is not fixed; export the model for images of one size"
        )
    return before, height, width, after


def _count(grid: tuple[int, int, int, int]) -> int:
    """The number of tokens."""
    before, height, width, after = grid
    return before + height * width + after


def _require_sequence(graph: gs.Graph, squares: Sequence[_Square], score: str) -> None:
    """ModelError if a matrix does not depend on the one before it, as in parallel branches."""
    for square, following in pairwise(squares):
        after = subgraph_between(graph, {square.tensor.name}, {score}, carries_floats)
        if following.tensor.name not in after.tensors:
            raise ModelError(
                f"the attentions {square.tensor.name!r} and {following.tensor.name!r} are parallel: neither "
                "depends on the other"
            )


def _tokens_read(
    path: Subgraph, flow: AxisFlow, square: _Square, count: int
) -> list[tuple[int, ...]]:
    axes = flow.axes_of(square.mixed) or ()
    axis = axes.index(square.axes[square.key])
    return tokens_read(path, square.mixed, axis, count, flow.opset)


def _arrangement(square: _Square, tokens: int) -> Callable[[Any], Any]:
    """A function that makes (N, heads, tokens, tokens) of a matrix."""
    axes, pair = square.axes, (square.query, square.key)
    batch = next((i for i, axis in enumerate(axes) if BATCH in kinds(axis[:1])), None)
    if batch is None:
        raise ModelError(
            f"the images in the attention {square.tensor.name!r} {tuple(square.tensor.shape)} cannot be told "
            "apart from its heads"
        )
    others = [i for i in range(len(axes)) if i not in (batch, *pair)]
    order = (batch, *others, *pair)
    if order == (0, 1, 2, 3) and len(axes[batch]) == 1:
        return unchanged
    sizes = [size_of(axes[batch][1:]), *(square.tensor.shape[i] for i in others)]
    heads = math.prod(size for size in sizes if isinstance(size, int))
    shape = (-1, heads, tokens, tokens)

    def arrange(values: Any) -> Any:
        moved = np.transpose(values, order)
        return np.reshape(moved, shape)

    return arrange
