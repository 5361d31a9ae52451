"""A small vision transformer of several blocks, as ONNX and in float64, where its attention can be changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

from onnxcam.arrays import Floats

WIDTH, HEADS, CLASSES, ROWS, COLUMNS = 8, 2, 5, 2, 3
SHAPE = (3, 2 * ROWS, 2 * COLUMNS)  # of an image
EPSILON = 1e-5


class Run(NamedTuple):
    """What a transformer computes for one image: the tokens after each block, its attention (heads, T, T), and
    the logits.
    """

    streams: list[Floats]
    attention: list[Floats]
    logits: Floats


@dataclass(frozen=True)
class Transformer:
    """Blocks of attention and an MLP on a grid of 2 x 3 patches.

    before, after: the numbers of tokens before and after the cells.
    read: what the head reads: the first "token", "two" tokens, the mean of the "cells", or of "all" tokens.
    form: how attention is written: with "heads" in an axis of their own, "folded" into that of the images,
        "single" for one head without an axis, "turned" with the heads before the images, "tokens first" as in
        PyTorch's own attention, which folds them from tokens before images, or as one node: ONNX's
        Attention ("fused", opset 23) or ONNX Runtime's MultiHeadAttention ("contrib").
    before_tail: nodes between the last tokens `stream` and what the last normalization reads, `end`.
    after_softmax: nodes between the Softmax `soft` and `used`, by which values are multiplied.
    """

    blocks: int = 2
    before: int = 1
    after: int = 0
    read: str = "token"
    form: str = "heads"
    after_softmax: str = "used = Identity(soft)"
    before_tail: str = "end = Identity(stream)"
    batch: str = "N"
    opset: int = 17
    seed: int = 0
    weights: Mapping[str, Floats] = field(init=False)

    def __post_init__(self) -> None:
        draw = np.random.default_rng(self.seed)
        shapes: dict[str, tuple[int, ...]] = {
            "patch": (WIDTH, 3, 2, 2),
            "first": (1, self.before, WIDTH),
            "last": (1, self.after, WIDTH),
            "position": (1, self.tokens, WIDTH),
            "head": (WIDTH, CLASSES),
        }
        for block in range(self.blocks):
            square = dict.fromkeys("qkvo", (WIDTH, WIDTH))
            for name, shape in {**square, "u": (WIDTH, 12), "d": (12, WIDTH)}.items():
                shapes[f"{name}{block}"] = shape
        weights = {name: draw.normal(0, 0.6, shape) for name, shape in shapes.items()}
        object.__setattr__(self, "weights", weights)

    @property
    def heads(self) -> int:
        return 1 if self.form == "single" else HEADS

    @property
    def tokens(self) -> int:
        return self.before + ROWS * COLUMNS + self.after

    @property
    def cells(self) -> slice:
        return slice(self.before, self.before + ROWS * COLUMNS)

    @property
    def parts(self) -> Floats:
        """(T,): the part of each token in what the head reads."""
        parts = np.zeros(self.tokens)
        read = {"token": [0], "two": [0, 1], "cells": range(*self.cells.indices(self.tokens))}
        chosen = [*read.get(self.read, range(self.tokens))]
        parts[chosen] = 1 / len(chosen)
        return parts

    # In float64

    def run(
        self, x: Floats, change: Mapping[int, Floats] | None = None, until: int | None = None
    ) -> Run:
        """One image (3, 4, 6). `change` is added to the attention of blocks. The head is applied after the
        block `until`, by default the last one.
        """
        w, tokens, streams, matrices = self.weights, self.embed(x), [], []
        for block in range(self.blocks if until is None else until + 1):
            normed = norm(tokens)
            q, k, v = (self._split(normed @ w[f"{name}{block}"]) for name in "qkv")
            logits = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[2])
            powers = np.exp(logits - logits.max(-1, keepdims=True))
            attention = powers / powers.sum(-1, keepdims=True)
            matrices.append(attention)
            mixed = (attention + (change or {}).get(block, 0.0)) @ v
            tokens = tokens + mixed.transpose(1, 0, 2).reshape(self.tokens, WIDTH) @ w[f"o{block}"]
            tokens = tokens + np.tanh(norm(tokens) @ w[f"u{block}"]) @ w[f"d{block}"]
            streams.append(tokens)
        return Run(streams, matrices, self.parts @ norm(tokens) @ w["head"])

    def embed(self, x: Floats) -> Floats:
        """(T, WIDTH) of one image."""
        patches = x.astype(np.float64).reshape(3, ROWS, 2, COLUMNS, 2)
        cells = np.einsum("chiwj,kcij->hwk", patches, self.weights["patch"]).reshape(-1, WIDTH)
        tokens = np.concatenate([self.weights["first"][0], cells, self.weights["last"][0]])
        embedded: Floats = tokens + self.weights["position"][0]
        return embedded

    def _split(self, x: Floats) -> Floats:
        return x.reshape(self.tokens, self.heads, -1).transpose(1, 0, 2)

    # As ONNX

    def content(self) -> bytes:
        """The model file."""
        blocks = "\n".join(self._block(number) for number in range(self.blocks))
        domains = f"""["": {self.opset}, "com.microsoft": 1]"""
        text = f"""<ir_version: 10, opset_import: {domains}>
        net (float[{self.batch}, {SHAPE[0]}, {SHAPE[1]}, {SHAPE[2]}] x)
            => (float[{self.batch}, {CLASSES}] logits) {{
            conv = Conv<strides = [2, 2]>(x, patch)
            to_flat = Constant<value_ints = [0, {WIDTH}, -1]>()
            flat = Reshape(conv, to_flat)
            cells = Transpose<perm = [0, 2, 1]>(flat)
            count = Shape<end = 1>(x)
            {self._around("first", self.before)}
            {self._around("last", self.after)}
            joined = Concat<axis = 1>({", ".join(self._joined())})
            stream = Add(joined, position)
            {blocks}
            {self.before_tail.replace("stream", f"stream{self.blocks}")}
            normed = LayerNormalization<epsilon = {EPSILON}>(end, ones, zeros)
            {self._reading()}
            logits = MatMul(picked, head) }}"""
        proto = onnx.parser.parse_model(text.replace("stream0", "stream"))
        arrays = {**self.weights, "ones": np.ones(WIDTH), "zeros": np.zeros(WIDTH)}
        for name, array in arrays.items():
            if array.size:
                single = array.astype(np.float32)
                proto.graph.initializer.append(numpy_helper.from_array(single, name))
        return bytes(proto.SerializeToString())

    def _around(self, name: str, count: int) -> str:
        if not count:
            return ""
        return f"""{name}_rest = Constant<value_ints = [{count}, {WIDTH}]>()
            {name}_shape = Concat<axis = 0>(count, {name}_rest)
            {name}_tokens = Expand({name}, {name}_shape)"""

    def _joined(self) -> Sequence[str]:
        parts = {"first_tokens": self.before, "cells": 1, "last_tokens": self.after}
        return [name for name, count in parts.items() if count]

    def _block(self, b: int) -> str:
        return f"""ln{b} = LayerNormalization<epsilon = {EPSILON}>(stream{b}, ones, zeros)
            {self._projected("q", b)} {self._projected("k", b)} {self._projected("v", b)}
            {self._attention(b)}
            {self._merged(b)}
            added{b} = MatMul(merged{b}, o{b}) middle{b} = Add(stream{b}, added{b})
            ln_mlp{b} = LayerNormalization<epsilon = {EPSILON}>(middle{b}, ones, zeros)
            up{b} = MatMul(ln_mlp{b}, u{b}) active{b} = Tanh(up{b}) down{b} = MatMul(active{b}, d{b})
            stream{b + 1} = Add(middle{b}, down{b})"""

    def _attention(self, b: int) -> str:
        if self.form == "fused":
            return f"mixed{b} = Attention(q_heads{b}, k_heads{b}, v_heads{b})"
        if self.form == "contrib":
            node = f"com.microsoft.MultiHeadAttention<num_heads = {HEADS}>"
            return f"mixed{b} = {node}(q_heads{b}, k_heads{b}, v_heads{b})"
        turned_pair = [0, 1, 3, 2] if self.form in ("heads", "turned") else [0, 2, 1]
        return f"""kt{b} = Transpose<perm = {turned_pair}>(k_heads{b})
            product{b} = MatMul(q_heads{b}, kt{b})
            root{b} = Constant<value_float = {(WIDTH // self.heads) ** -0.5}>()
            scaled{b} = Mul(product{b}, root{b})
            soft{b} = Softmax<axis = -1>(scaled{b})
            {self.after_softmax.replace("soft", f"soft{b}").replace("used", f"used{b}")}
            mixed{b} = MatMul(used{b}, v_heads{b})"""

    def _projected(self, name: str, b: int) -> str:
        """The queries, keys or values, with the heads where `form` has them."""
        size = WIDTH // self.heads
        perm = [2, 0, 1, 3] if self.form == "turned" else [0, 2, 1, 3]
        lines = f"{name}_flat{b} = MatMul(ln{b}, {name}{b})"
        if self.form in ("single", "contrib"):
            return f"{lines} {name}_heads{b} = Identity({name}_flat{b})"
        if self.form == "tokens first":
            return f"""{lines} {name}_turned{b} = Transpose<perm = [1, 0, 2]>({name}_flat{b})
            {name}_fold{b} = Constant<value_ints = [{self.tokens}, -1, {size}]>()
            {name}_folded{b} = Reshape({name}_turned{b}, {name}_fold{b})
            {name}_heads{b} = Transpose<perm = [1, 0, 2]>({name}_folded{b})"""
        lines += f"""
            {name}_split{b} = Constant<value_ints = [0, {self.tokens}, {self.heads}, {size}]>()
            {name}_4d{b} = Reshape({name}_flat{b}, {name}_split{b})
            {name}_turned{b} = Transpose<perm = {perm}>({name}_4d{b})"""
        if self.form == "folded":
            return f"""{lines}
            {name}_fold{b} = Constant<value_ints = [-1, {self.tokens}, {size}]>()
            {name}_heads{b} = Reshape({name}_turned{b}, {name}_fold{b})"""
        return f"{lines} {name}_heads{b} = Identity({name}_turned{b})"

    def _merged(self, b: int) -> str:
        if self.form in ("single", "contrib"):
            return f"merged{b} = Identity(mixed{b})"
        if self.form == "tokens first":
            return f"""back{b} = Transpose<perm = [1, 0, 2]>(mixed{b})
            to_merged{b} = Constant<value_ints = [{self.tokens}, -1, {WIDTH}]>()
            together{b} = Reshape(back{b}, to_merged{b})
            merged{b} = Transpose<perm = [1, 0, 2]>(together{b})"""
        size, lines, source = WIDTH // self.heads, "", f"mixed{b}"
        if self.form == "folded":
            lines = f"""unfold{b} = Constant<value_ints = [-1, {self.heads}, {self.tokens}, {size}]>()
            unfolded{b} = Reshape(mixed{b}, unfold{b})"""
            source = f"unfolded{b}"
        perm = [1, 2, 0, 3] if self.form == "turned" else [0, 2, 1, 3]
        return f"""{lines}
            together{b} = Transpose<perm = {perm}>({source})
            to_merged{b} = Constant<value_ints = [0, {self.tokens}, {WIDTH}]>()
            merged{b} = Reshape(together{b}, to_merged{b})"""

    def _reading(self) -> str:
        """What the head reads of the tokens."""
        one = "one = Constant<value_ints = [1]>()"
        start, stop = self.cells.start, self.cells.stop
        return {
            "token": "i = Constant<value_int = 0>() picked = Gather<axis = 1>(normed, i)",
            "two": """i = Constant<value_int = 0>() j = Constant<value_int = 1>()
                a = Gather<axis = 1>(normed, i) b = Gather<axis = 1>(normed, j)
                total = Add(a, b) half = Constant<value_float = 0.5>() picked = Mul(total, half)""",
            "cells": f"""{one} a = Constant<value_ints = [{start}]>() b = Constant<value_ints = [{stop}]>()
                kept = Slice(normed, a, b, one) picked = ReduceMean<axes = [1], keepdims = 0>(kept)""",
            "all": "picked = ReduceMean<axes = [1], keepdims = 0>(normed)",
        }[self.read]


def norm(tokens: Floats) -> Floats:
    """Each token with mean 0 and variance 1."""
    centered = tokens - tokens.mean(-1, keepdims=True)
    normed: Floats = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + EPSILON)
    return normed


def on_grid(row: Any, net: Transformer) -> Floats:
    """(h, w): the cells of a row of tokens."""
    return np.array(
        [[row[net.before + i * COLUMNS + j] for j in range(COLUMNS)] for i in range(ROWS)]
    )
