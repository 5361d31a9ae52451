"""One fused operator as a model, and its NumPy twin if ONNX Runtime has no kernel for CPUs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from onnxcam.graph.operators import CONTRIB
from tests.passes.support.parsed import run


def floats(*shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(list(shape)).normal(size=shape).astype(dtype)


def integers(*shape: int, dtype: Any = np.int8) -> Any:
    bounds = np.iinfo(dtype)
    return np.random.default_rng(list(shape)).integers(bounds.min, bounds.max, shape).astype(dtype)


@dataclass
class Case:
    """One node. The inputs of the indices `fed` are inputs of the graph, the others are constants."""

    operator: str
    inputs: Sequence[Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: Sequence[int] = (0,)
    domain: str = CONTRIB
    opsets: Sequence[int] = (13, 21)
    fed: Sequence[int] = (0,)
    expected: Callable[..., Any] | None = None  # if ONNX Runtime has no kernel for CPUs
    tolerance: float = 2e-6
    rank: int | None = None  # of the outputs, if it is not that of the first input

    def __str__(self) -> str:
        shapes = [getattr(array, "shape", None) for array in self.inputs]
        return f"{self.operator}{shapes}{self.attributes}"

    def model(self, opset: int) -> onnx.ModelProto:
        names = ["" if array is None else f"i{i}" for i, array in enumerate(self.inputs)]
        outputs = [f"o{i}" if i in self.outputs else "" for i in range(max(self.outputs) + 1)]
        node = onnx.helper.make_node(
            self.operator, names, outputs, domain=self.domain, **self.attributes
        )
        arrays = {n: np.asarray(x) for n, x in zip(names, self.inputs, strict=True) if n}
        codes = {n: onnx.helper.np_dtype_to_tensor_dtype(x.dtype) for n, x in arrays.items()}
        fed = {names[i] for i in self.fed}
        graph = onnx.helper.make_graph(
            [node],
            "net",
            [onnx.helper.make_tensor_value_info(n, codes[n], arrays[n].shape) for n in sorted(fed)],
            [
                onnx.helper.make_tensor_value_info(
                    name, code, [None] * (self.rank or np.ndim(self.inputs[0]))
                )
                for name, code in zip(outputs, self.codes(), strict=True)
                if name
            ],
            [numpy_helper.from_array(x, n) for n, x in arrays.items() if n not in fed],
        )
        imports = [onnx.helper.make_opsetid("", opset)]
        imports += [onnx.helper.make_opsetid(self.domain, 1)] if self.domain else []
        return onnx.helper.make_model(graph, opset_imports=imports, ir_version=8)

    def codes(self) -> list[int]:
        """The types of the outputs: that of the first input, or float if it has integers."""
        kind = np.asarray(self.inputs[0]).dtype
        kind = kind if kind.kind == "f" or self.operator == "NhwcMaxPool" else np.dtype(np.float32)
        return [onnx.helper.np_dtype_to_tensor_dtype(kind)] * (max(self.outputs) + 1)

    def feed(self) -> dict[str, Any]:
        return {f"i{i}": np.asarray(self.inputs[i]) for i in self.fed}


def gelu(x: Any) -> Any:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q: Any, k: Any, v: Any) -> Any:
    """For (N, tokens, heads, d), one head at a time."""
    y = np.empty_like(q)
    for n, h in np.ndindex(q.shape[0], q.shape[2]):
        y[n, :, h] = softmax(q[n, :, h] @ k[n, :, h].T / np.sqrt(q.shape[3])) @ v[n, :, h]
    return y.reshape(*q.shape[:2], -1)


def group_norm(x: Any, gamma: Any, beta: Any, groups: int = 2, silu: bool = False) -> Any:
    """With the channels last, one group at a time."""
    y = np.empty_like(x)
    size = x.shape[-1] // groups
    for n, g in np.ndindex(x.shape[0], groups):
        channels = slice(g * size, (g + 1) * size)
        group = x[n, ..., channels]
        y[n, ..., channels] = (group - group.mean()) / np.sqrt(group.var() + 1e-5)
    y = y * gamma + beta
    return y / (1 + np.exp(-y)) if silu else y


def skip_group(x: Any, gamma: Any, beta: Any, skip: Any, bias: Any) -> list[Any]:
    total = x + skip + bias
    return [group_norm(total, gamma, beta), total]


def run_channels_last_conv(x: Any, w: Any, b: Any = None) -> Any:
    """A Conv with the channels last, by ONNX Runtime's Conv with the channels second."""
    inputs = [np.moveaxis(x, -1, 1), w] + ([] if b is None else [b])
    case = Case("Conv", inputs, domain="")
    return np.moveaxis(run(case.model(13), **case.feed())[0], 1, -1)
