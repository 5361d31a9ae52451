"""ONNX Runtime's multi-head attention, as products and a Softmax (Vaswani et al. 2017, arXiv:1706.03762).

Forms that only language models use stay as they are: caches of earlier tokens, rotary positions, and masks that
are lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from onnxcam.arrays import Dim
from onnxcam.graph import anp
from onnxcam.graph.slicing import slice_axes
from onnxcam.graph.tracing import Value
from onnxcam.passes.decomposition import Outputs
from onnxcam.passes.ort.registry import decomposes

QKV: TypeAlias = tuple[Value, Value, Value]  # queries, keys and values


def _split_heads(x: Value, heads: int) -> Value:
    """(N, tokens, heads * d) as (N, heads, tokens, d)."""
    return anp.transpose(anp.reshape(x, [0, 0, heads, -1]), [0, 2, 1, 3])


def _merge_heads(x: Value) -> Value:
    """(N, heads, tokens, d) as (N, tokens, heads * d)."""
    size, heads = x.shape[3], x.shape[1]
    width = heads * size if isinstance(size, int) and isinstance(heads, int) else -1
    return anp.reshape(anp.transpose(x, [0, 2, 1, 3]), [0, 0, width])


def _attend(qkv: QKV, scale: float | None, biases: Sequence[Value]) -> Value:
    """softmax(q k scale + biases) v; every operand is (N, heads, tokens, d)."""
    q, k, v = qkv
    factor = scale or float(_static_size(q, 3)) ** -0.5
    scores = anp.matmul(q, anp.transpose(k, [0, 1, 3, 2])) * factor
    for bias in biases:
        scores = scores + bias
    return anp.matmul(q.build.op("Softmax", scores, axis=3), v)


def _static_size(x: Value, axis: int) -> int:
    """The size of an axis. ValueError if it is not a number: the operator then stays as it is."""
    size = x.shape[axis]
    if not isinstance(size, int):
        raise ValueError(f"axis {axis} of {x.name!r} has no fixed size")
    return size


def _mask_bias(mask: Value, masked_bias: float, like: Value) -> Value | None:
    """A mask of shape (N, keys) or (N, queries, keys) as a bias: `masked_bias` where the mask is 0, else 0."""
    if mask.ndim not in (2, 3):
        return None
    mask = anp.expand_dims(mask, [1, 2] if mask.ndim == 2 else [1])
    attends = anp.greater(mask, mask.build.constant(0, mask.dtype))
    return anp.where(attends, like.constant_like(0.0), like.constant_like(masked_bias))


def _causal_bias(tokens: Dim, like: Value) -> Value | None:
    """The bias that lets every token attend only to itself and those before it."""
    if not isinstance(tokens, int):
        return None
    lowest = np.finfo(like.dtype).min
    return like.build.constant(np.triu(np.full((tokens, tokens), lowest), 1), like.dtype)


def _split_last_axis(x: Value, sizes: Sequence[int]) -> list[Value]:
    ends = np.cumsum(sizes).tolist()
    starts = [0, *ends[:-1]]
    last = x.ndim - 1
    return [slice_axes(x, [a], [b], [last]) for a, b in zip(starts, ends, strict=True)]


def _masked_attention(
    qkv: QKV,
    scale: float | None,
    mask: Value | None,
    bias: Value | None,
    masked_bias: float,
    unidirectional: int,
) -> Value | None:
    q, k, _ = qkv
    biases: list[Value | None] = [] if bias is None else [bias]
    if mask is not None:
        biases.append(_mask_bias(mask, masked_bias, q))
    if unidirectional:
        biases.append(_causal_bias(q.shape[2], q) if q.shape[2] == k.shape[2] else None)
    supported = [added for added in biases if added is not None]
    if len(supported) < len(biases):
        return None
    return _merge_heads(_attend(qkv, scale, supported))


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
    """Queries, keys and values are the parts of one product with the weights."""
    del past_present_share_buffer, rotary_embedding_dim
    if past is not None or do_rotary:
        return None
    y = anp.matmul(x, weights)
    y = y if bias is None else y + bias
    third = _static_size(weights, 1) // 3
    parts = _split_last_axis(y, list(qkv_hidden_sizes) or [third] * 3)
    q, k, v = (_split_heads(projection, num_heads) for projection in parts)
    return _masked_attention(
        (q, k, v), scale, mask, attention_bias, mask_filter_value, unidirectional
    )


@decomposes("MultiHeadAttention")
def _multi_head_attention(
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
    """Queries, keys and values are separate inputs, or packed as (N, tokens, heads, 3 or 2, d)."""
    qkv = _unpack(query, key, value, bias, num_heads)
    if qkv is None:
        return None
    return _masked_attention(qkv, scale, mask, attention_bias, mask_filter_value, unidirectional)


def _unpack(
    query: Value, key: Value | None, value: Value | None, bias: Value | None, heads: int
) -> QKV | None:
    if query.ndim == 5:
        packed = anp.transpose(query, [3, 0, 2, 1, 4])
        q, k, v = (anp.squeeze(slice_axes(packed, [i], [i + 1], [0]), 0) for i in range(3))
        return None if bias is not None else (q, k, v)
    if key is not None and value is None and key.ndim == 5 and bias is None:
        packed = anp.transpose(key, [3, 0, 2, 1, 4])
        k, v = (anp.squeeze(slice_axes(packed, [i], [i + 1], [0]), 0) for i in range(2))
        return _split_heads(query, heads), k, v
    if key is None or value is None:
        return None
    inputs = [query, key, value]
    if bias is not None:
        inputs = _add_bias(inputs, bias)
    q, k, v = (x if x.ndim == 4 else _split_heads(x, heads) for x in inputs)
    return q, k, v


def _add_bias(inputs: Sequence[Value], bias: Value) -> list[Value]:
    """The inputs plus their parts of the bias; keys and values of four axes contain it already."""
    width = _static_size(inputs[0], 2)
    sizes = [width, width, _static_size(bias, 0) - 2 * width]
    biases = _split_last_axis(bias, sizes)
    return [
        x if x.ndim == 4 else x + bias_slice for x, bias_slice in zip(inputs, biases, strict=True)
    ]
