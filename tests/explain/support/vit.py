"""A vision transformer with a NumPy twin: one block of attention, computed in float64 without ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from onnxcam.arrays import Floats

WIDTH, CLASSES, HEIGHT, COLUMNS = 6, 5, 2, 3


@dataclass(frozen=True)
class Vit:
    """One block of attention on a grid of 2 x 3 patches. Read is the first token, the mean of the cells, or
    the mean of all tokens; `extra` class tokens stand before the cells, or after them.
    """

    extra: int = 1
    cells_first: bool = False
    read: str = "token"
    batch: str = "N"

    @property
    def weights(self) -> dict[str, Any]:
        draw = np.random.default_rng(3)
        shapes = {
            "w": (WIDTH, 3, 2, 2), "cls": (1, self.extra, WIDTH), "q": (WIDTH, WIDTH),
            "k": (WIDTH, WIDTH), "v": (WIDTH, WIDTH), "scale": (WIDTH,), "bias": (WIDTH,),
            "head": (CLASSES, WIDTH), "mlp": (WIDTH, WIDTH),
        }  # fmt: skip
        return {name: draw.normal(0, 0.7, shape) for name, shape in shapes.items()}

    @property
    def cells(self) -> slice:
        start = 0 if self.cells_first else self.extra
        return slice(start, start + HEIGHT * COLUMNS)

    def content(self) -> bytes:
        joined = "(patches, many)" if self.cells_first else "(many, patches)"
        first = HEIGHT * COLUMNS if self.cells_first else 0
        reading = {
            "token": f"i = Constant<value_int = {first}>() picked = Gather<axis = 1>(normed, i)",
            "mean": f"""a = Constant<value_ints = [{self.cells.start}]>()
                b = Constant<value_ints = [{self.cells.stop}]>() one = Constant<value_ints = [1]>()
                cells = Slice(normed, a, b, one)
                picked = ReduceMean<axes = [1], keepdims = 0>(cells)""",
            "all": "picked = ReduceMean<axes = [1], keepdims = 0>(normed)",
        }[self.read]
        text = f"""<ir_version: 9, opset_import: ["": 17]>
        net (float[{self.batch}, 3, 4, 6] x) => (float[{self.batch}, {CLASSES}] logits) {{
            conv = Conv<strides = [2, 2]>(x, w)
            shape = Constant<value_ints = [0, {WIDTH}, -1]>()
            flat = Reshape(conv, shape)
            patches = Transpose<perm = [0, 2, 1]>(flat)
            size = Shape<end = 1>(x)
            rest = Constant<value_ints = [{self.extra}, {WIDTH}]>()
            full = Concat<axis = 0>(size, rest)
            many = Expand(cls, full)
            tokens = Concat<axis = 1>{joined}
            ln = LayerNormalization(tokens, scale, bias)
            queries = MatMul(ln, q) keys = MatMul(ln, k) values = MatMul(ln, v)
            turned = Transpose<perm = [0, 2, 1]>(keys)
            logit = MatMul(queries, turned)
            attention = Softmax<axis = -1>(logit)
            mixed = MatMul(attention, values)
            sum = Add(tokens, mixed)
            hidden = MatMul(sum, mlp) active = Tanh(hidden) stream = Add(sum, active)
            normed = LayerNormalization(stream, scale, bias)
            {reading}
            logits = Gemm<transB = 1>(picked, head) }}"""
        proto = onnx.parser.parse_model(text)
        for name, array in self.weights.items():
            single = array.astype(np.float32)
            proto.graph.initializer.append(numpy_helper.from_array(single, name))
        return bytes(proto.SerializeToString())

    # The twin

    def tokens(self, x: Floats) -> Floats:
        """(T, WIDTH) of one image (3, 4, 6)."""
        patches = x.astype(np.float64).reshape(3, HEIGHT, 2, COLUMNS, 2)
        cells = np.einsum("chiwj,kcij->hwk", patches, self.weights["w"]).reshape(-1, WIDTH)
        extra = self.weights["cls"][0]
        return np.concatenate([cells, extra] if self.cells_first else [extra, cells])

    def norm(self, tokens: Floats) -> Floats:
        centered = tokens - tokens.mean(-1, keepdims=True)
        normalized = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
        return normalized * self.weights["scale"] + self.weights["bias"]

    def block(self, tokens: Floats, ln: Floats) -> Floats:
        w = self.weights
        weights = np.exp(ln @ w["q"] @ (ln @ w["k"]).T)
        total = tokens + weights / weights.sum(-1, keepdims=True) @ (ln @ w["v"])
        return total + np.tanh(total @ w["mlp"])

    def logits(self, normed: Floats) -> Floats:
        first = HEIGHT * COLUMNS if self.cells_first else 0
        read = {
            "token": normed[first],
            "mean": normed[self.cells].mean(0),
            "all": normed.mean(0),
        }[self.read]
        return read @ self.weights["head"].T

    def probed(self, x: Floats, layer: str, target: int) -> dict[str, Floats]:
        """Activation and gradient (1, C, h, w) at "ln", or before the head, by central differences."""
        tokens = self.tokens(x)
        values = self.norm(tokens)
        if layer != "ln":
            values = self.norm(self.block(tokens, values))

        def score(at: Floats) -> float:
            last = self.norm(self.block(tokens, at)) if layer == "ln" else at
            return float(self.logits(last)[target])

        slope = np.zeros_like(values)
        for i in np.ndindex(*values.shape):
            step = np.zeros_like(values)
            step[i] = 1e-5
            slope[i] = (score(values + step) - score(values - step)) / 2e-5
        return {"activation": self.grid(values), "gradient": self.grid(slope)}

    def grid(self, tokens: Floats) -> Floats:
        cells: Floats = tokens[self.cells].T.reshape(1, WIDTH, HEIGHT, COLUMNS)
        return cells
