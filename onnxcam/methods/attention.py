"""Attention of transformers: from which cells the tokens come that the score reads, block by block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxcam.arrays import Floats, Saliency
from onnxcam.errors import ModelError
from onnxcam.methods.method import method
from onnxcam.methods.place import AttentionMatrices, ModelView, Place, place

ALTERNATIVES = "use a method at a layer, such as grad-cam or layer-cam"


@place("attention")
def attention_of(model: ModelView) -> list[Place]:
    """The attention matrices in the order of the model: (N, heads, T, T), what each token reads of every token.

    `cells` and `readers` say which of the tokens are cells, and which the score reads.
    """
    try:
        attention = model.attention()
    except ModelError as error:
        raise ModelError(f"{error}; {ALTERNATIVES}") from error
    constants = {"cells": cells_among_tokens(attention), "readers": parts_read(attention)}
    notice = _notice(attention)
    return [
        Place(
            matrix.tensor,
            constants=constants,
            arrange=matrix.arrange,
            output=matrix.output,
            notice=notice,
        )
        for matrix in attention.matrices
    ]


@place("attention-blocks")
def blocks_with_attention(model: ModelView) -> list[Place]:
    """The same, where the outputs of the blocks are known."""
    places = attention_of(model)
    for matrix in places:
        if not matrix.output:
            raise ModelError(
                f"the block of the attention {matrix.tensor!r} has no residual connection, so that the tail of "
                "the model cannot be applied to its output; use transformer-attribution"
            )
    return places


def cells_among_tokens(attention: AttentionMatrices) -> Floats:
    """(1, h, w): the number of each cell among the tokens."""
    numbers = np.arange(attention.height * attention.width, dtype=np.float32) + attention.before
    return np.reshape(numbers, (1, attention.height, attention.width))


def parts_read(attention: AttentionMatrices) -> Floats:
    """(1, T): the part of each token in what the score reads. Each reader has the same part, and of what it
    reads each token has.
    """
    parts = np.zeros((1, attention.tokens), np.float32)
    for tokens in attention.read:
        parts[0, list(tokens)] += 1 / (len(attention.read) * len(tokens))
    return parts


def _notice(attention: AttentionMatrices) -> str:
    if not attention.left_out:
        return ""
    used, count = len(attention.matrices), len(attention.matrices) + len(attention.left_out)
    grid = f"{attention.height} x {attention.width}"
    return (
        f"only {used} of {count} attention matrices are used, the last ones in which all {grid} cells attend "
        "to each other"
    )


@method(
    "attention-rollout", source="Abnar and Zuidema 2020, eq. 1", at="attention", family="attention"
)
def attention_rollout(attention: Sequence[Floats], readers: Floats, cells: Floats) -> Saliency:
    """The part of each cell in the tokens that the score reads, if every block adds what it attends to.

    The rows of mean_h A_b + I, normalized, are multiplied through the blocks; the map (N, h, w) is the row of
    the class token, or the mean of the rows of the tokens that are averaged.
    """
    row = np.expand_dims(readers, 1)
    for matrix in reversed(attention):
        row = row / np.expand_dims(
            1.0 + np.sum(matrix, axis=2), 1
        )  # by the sums of the rows of A + I
        row = row + row @ matrix
    return _on_grid(row[:, 0], cells)


@method(
    "transformer-attribution",
    source="Chefer et al., ICCV 2021, eq. 5-6",
    at="attention",
    family="attention",
)
def transformer_attribution(
    attention_relevance: Sequence[Floats], readers: Floats, cells: Floats
) -> Saliency:
    """Attention that raises the target's score, followed through the blocks to the cells.

    R = I, then R + A_b R through the blocks, with A_b = mean_h relu(A dS/dA); the map (N, h, w) is the row of
    the class token, or the mean of the rows of the tokens that are averaged. I is left out of it: it would add
    the same to all cells that are averaged.
    """
    start = np.expand_dims(readers, 1)
    row = start
    for relevance in reversed(attention_relevance):
        row = row + row @ relevance
    return _on_grid((row - start)[:, 0], cells)


@method(
    "legrad",
    source="Bousselham et al. 2024, section 3",
    at="attention-blocks",
    family="attention",
)
def legrad(attention_gradient: Sequence[Floats], cells: Floats) -> Saliency:
    """Attention that would raise the score of its own block, whose output the tail of the model reads.

    The map (N, h, w) are the columns of cells of the mean of relu(ds_b/dA_b) over the blocks b, their heads and
    rows. s_b is the target's score if the final normalization, the pooling and the head read the output of b.
    """
    return _on_grid(np.mean(np.stack(attention_gradient), axis=0), cells)


def _on_grid(row: Floats, cells: Floats) -> Saliency:
    """(N, h, w): the numbers of the tokens (N, T) that are cells."""
    return np.take(row, cells[0].astype(np.int64), axis=1)
