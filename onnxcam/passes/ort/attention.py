"""Attention of several heads as products and a Softmax (Vaswani et al. 2017, arXiv:1706.03762).

Caches of earlier tokens, rotary positions and masks given as lengths are of language models, and left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from onnxcam.graph import anp
from onnxcam.graph.slicing import slice_axes
from onnxcam.graph.tracing import Value
from onnxcam.passes.decomposition import Outputs
from onnxcam.passes.ort.registry import decomposes

Three: TypeAlias = tuple[Value, Value, Value]


def _heads(x: Value, heads: int) -> Value:
    """(N, tokens, heads * d) as (N, heads, tokens, d)."""
    return anp.transpose(anp.reshape(x, [0, 0, heads, -1]), [0, 2, 1, 3])


def _joined(x: Value) -> Value:
    """(N, heads, tokens, d) as (N, tokens, heads * d)."""
    size, heads = x.shape[3], x.shape[1]
    width = heads * size if isinstance(size, int) and isinstance(heads, int) else -1
    return anp.reshape(anp.transpose(x, [0, 2, 1, 3]), [0, 0, width])


def _attended(three: Three, scale: float | None, biases: Sequence[Value]) -> Value:
    """softmax(q k scale + biases) v; every operand is (N, heads, tokens, d)."""
    q, k, v = three
    factor = scale or float(_number(q.shape[3])) ** -0.5
    scores = anp.matmul(q, anp.transpose(k, [0, 1, 3, 2])) * factor
    for each in biases:
        scores = scores + each
    return anp.matmul(q.build.op("Softmax", scores, axis=3), v)


def _number(dim: int | str | None) -> int:
    return dim if isinstance(dim, int) else int(np.nan)


def _hidden(mask: Value, number: float, like: Value) -> Value | None:
    """What is added for a mask, which is 0 where a key is not seen: (N, keys), or (N, queries, keys)."""
    if mask.ndim not in (2, 3):
        return None
    seen = anp.expand_dims(mask, [1, 2] if mask.ndim == 2 else [1])
    return anp.where(
        anp.greater(seen, mask.build.constant(0, mask.dtype)), *_two(like, 0.0, number)
    )


def _two(like: Value, first: float, second: float) -> list[Value]:
    return [like.constant_like(each) for each in (first, second)]


def _later(tokens: int | str | None, like: Value) -> Value | None:
    """What is added where every token sees only itself and those before it."""
    if not isinstance(tokens, int):
        return None
    lowest = np.finfo(like.dtype).min
    return like.build.constant(np.triu(np.full((tokens, tokens), lowest), 1), like.dtype)


def _parted(x: Value, sizes: Sequence[int]) -> list[Value]:
    """The parts of the last axis."""
    ends = np.cumsum(sizes).tolist()
    starts = [0, *ends[:-1]]
    last = x.ndim - 1
    return [slice_axes(x, [a], [b], [last]) for a, b in zip(starts, ends, strict=True)]


def _masked(
    three: Three,
    scale: float | None,
    mask: Value | None,
    bias: Value | None,
    number: float,
    unidirectional: int,
) -> Value | None:
    like, biases = three[0], [] if bias is None else [bias]
    added: list[Value | None] = [*biases]
    if mask is not None:
        added.append(_hidden(mask, number, like))
    if unidirectional:
        added.append(_later(like.shape[2], like) if like.shape[2] == three[1].shape[2] else None)
    known = [each for each in added if each is not None]
    return _joined(_attended(three, scale, known)) if len(known) == len(added) else None


@decomposes("Attention")
def _attention(
    x: Value,
    weights: Value,
    bias: Value | None = None,
    mask: Value | None = None,
    past: None = None,
    attention_bias: Value | None = None,
    *,
    num_heads: int,
    scale: float | None = None,
    mask_filter_value: float = -10000.0,
    qkv_hidden_sizes: Sequence[int] = (),
    unidirectional: int = 0,
    do_rotary: int = 0,
    rotary_embedding_dim: int = 0,
    past_present_share_buffer: int = 0,
) -> Value | Outputs | None:
    """Queries, keys and values are one product with the weights."""
    del past_present_share_buffer, rotary_embedding_dim
    if past is not None or do_rotary:
        return None
    y = anp.matmul(x, weights)
    y = y if bias is None else y + bias
    third = _number(weights.shape[1]) // 3
    parts = _parted(y, list(qkv_hidden_sizes) or [third] * 3)
    q, k, v = (_heads(each, num_heads) for each in parts)
    return _masked((q, k, v), scale, mask, attention_bias, mask_filter_value, unidirectional)


@decomposes("MultiHeadAttention")
def _attention_of_heads(
    query: Value,
    key: Value | None = None,
    value: Value | None = None,
    bias: Value | None = None,
    mask: Value | None = None,
    attention_bias: Value | None = None,
    *,
    num_heads: int,
    scale: float | None = None,
    mask_filter_value: float = -10000.0,
    unidirectional: int = 0,
) -> Value | None:
    """Queries, keys and values are given apart, or packed as (N, tokens, heads, 3 or 2, d)."""
    three = _unpacked(query, key, value, bias, num_heads)
    if three is None:
        return None
    return _masked(three, scale, mask, attention_bias, mask_filter_value, unidirectional)


def _unpacked(
    query: Value, key: Value | None, value: Value | None, bias: Value | None, heads: int
) -> Three | None:
    if query.ndim == 5:
        packed = anp.transpose(query, [3, 0, 2, 1, 4])
        q, k, v = (anp.squeeze(slice_axes(packed, [i], [i + 1], [0]), 0) for i in range(3))
        return None if bias is not None else (q, k, v)
    if key is not None and value is None and key.ndim == 5 and bias is None:
        packed = anp.transpose(key, [3, 0, 2, 1, 4])
        k, v = (anp.squeeze(slice_axes(packed, [i], [i + 1], [0]), 0) for i in range(2))
        return _heads(query, heads), k, v
    if key is None or value is None:
        return None
    given = [query, key, value]
    if bias is not None:
        given = _with_bias(given, bias)
    q, k, v = (each if each.ndim == 4 else _heads(each, heads) for each in given)
    return q, k, v


def _with_bias(given: Sequence[Value], bias: Value) -> list[Value]:
    """Each with its part of the bias; keys and values of four axes have theirs already."""
    width = _number(given[0].shape[2])
    rest = _number(bias.shape[0]) - 2 * width
    parts = _parted(bias, [width, width, rest])
    return [x if x.ndim == 4 else x + part for x, part in zip(given, parts, strict=True)]
