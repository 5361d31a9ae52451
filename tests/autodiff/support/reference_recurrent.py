"""RNN, GRU and LSTM in float64, one image, step and direction at a time, after the equations of ONNX.

The bound of `clip` and the defaults of factors are those of ONNX Runtime, which ONNX leaves open.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

Doubles: TypeAlias = NDArray[np.float64]
Number: TypeAlias = Callable[[float], float]


def sigmoid(x: float) -> float:
    return (1 + math.tanh(x / 2)) / 2


def activation(name: str, alphas: Iterator[float], betas: Iterator[float]) -> Number:
    match name:
        case "Tanh":
            return math.tanh
        case "Sigmoid":
            return sigmoid
        case "Relu":
            return lambda x: max(x, 0.0)
        case "Softsign":
            return lambda x: x / (1 + abs(x))
        case "Softplus":
            return lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x)))
        case "LeakyRelu":
            slope = next(alphas, 0.01)
            return lambda x: x if x > 0 else slope * x
        case "ThresholdedRelu":
            threshold = next(alphas, 0.0)
            return lambda x: x if x > threshold else 0.0
        case "Elu":
            factor = next(alphas, 1.0)
            return lambda x: x if x > 0 else factor * math.expm1(x)
        case "Affine":
            factor, constant = next(alphas, 0.0), next(betas, 0.0)
            return lambda x: factor * x + constant
        case "ScaledTanh":
            outer, inner = next(alphas, 0.0), next(betas, 0.0)
            return lambda x: outer * math.tanh(inner * x)
        case "HardSigmoid":
            factor, constant = next(alphas, 0.2), next(betas, 0.5)
            return lambda x: min(max(factor * x + constant, 0.0), 1.0)
    raise ValueError(name)


class Step:
    """One step of one direction and one image: vectors of hidden numbers."""

    def __init__(
        self, weights: Sequence[Any], attributes: dict[str, Any], functions: Sequence[Number]
    ) -> None:
        self.w, self.r, b, self.peepholes = weights
        self.hidden = self.r.shape[1]
        both = np.zeros(2 * len(self.w)) if b is None else b
        self.w_bias, self.r_bias = both[: len(self.w)], both[len(self.w) :]
        self.functions, self.attributes = functions, attributes

    def call(self, slot: int, x: Doubles, *, bounded: bool = True) -> Doubles:
        bound = self.attributes.get("clip") or math.inf
        limit = bound if bounded else math.inf
        return np.array([self.functions[slot](min(max(number, -limit), limit)) for number in x])

    def rows(self, gate: int) -> slice:
        return slice(gate * self.hidden, (gate + 1) * self.hidden)

    def inputs(self, gate: int, x: Doubles) -> Doubles:
        return self.w[self.rows(gate)] @ x + self.w_bias[self.rows(gate)]

    def states(self, gate: int, h: Doubles) -> Doubles:
        return self.r[self.rows(gate)] @ h + self.r_bias[self.rows(gate)]

    def rnn(self, x: Doubles, h: Doubles) -> list[Doubles]:
        return [self.call(0, self.inputs(0, x) + self.states(0, h))]

    def gru(self, x: Doubles, h: Doubles) -> list[Doubles]:
        z = self.call(0, self.inputs(0, x) + self.states(0, h))
        reset = self.call(0, self.inputs(1, x) + self.states(1, h))
        if self.attributes.get("linear_before_reset"):
            candidate = self.call(1, self.inputs(2, x) + reset * self.states(2, h))
        else:
            candidate = self.call(1, self.inputs(2, x) + self.states(2, reset * h))
        return [(1 - z) * candidate + z * h]

    def lstm(self, x: Doubles, h: Doubles, c: Doubles) -> list[Doubles]:
        peepholes = np.zeros(3 * self.hidden) if self.peepholes is None else self.peepholes
        of_i, of_o, of_f = peepholes.reshape(3, -1)
        i, o, f, g = (self.inputs(gate, x) + self.states(gate, h) for gate in range(4))
        i = self.call(0, i + of_i * c)
        f = 1 - i if self.attributes.get("input_forget") else self.call(0, f + of_f * c)
        c = f * c + i * self.call(1, g)
        return [self.call(0, o + of_o * c) * self.call(2, c, bounded=False), c]


def run(
    step_name: str,
    defaults: Sequence[str],
    x: Doubles,
    weights: Sequence[Any],
    lengths: Any,
    initial: Sequence[Any],
    attributes: dict[str, Any],
) -> tuple[Doubles, ...]:
    """Y and the last states."""
    if attributes.get("layout"):
        x, initial = x.swapaxes(0, 1), [s if s is None else s.swapaxes(0, 1) for s in initial]
    (steps, batch, _), directions = x.shape, len(weights[0])
    hidden = weights[1].shape[2]
    names = attributes.get("activations") or [*defaults] * directions
    alphas, betas = (
        map(float, attributes.get(f"activation_{name}") or ()) for name in ("alpha", "beta")
    )
    functions = [activation(name, alphas, betas) for name in names]
    y = np.zeros((steps, directions, batch, hidden))
    last = [np.zeros((directions, batch, hidden)) for _ in initial]
    for number in range(directions):
        own = functions[number * len(defaults) : (number + 1) * len(defaults)]
        step = Step([None if w is None else w[number] for w in weights], attributes, own)
        is_reversed = number == 1 or attributes.get("direction") == "reverse"
        for image in range(batch):
            count = steps if lengths is None else int(lengths[image])
            states = [np.zeros(hidden) if s is None else s[number, image] for s in initial]
            for t in reversed(range(count)) if is_reversed else range(count):
                states = getattr(step, step_name)(x[t, image], *states)
                y[t, number, image] = states[0]
            for array, state in zip(last, states, strict=True):
                array[number, image] = state
    if attributes.get("layout"):
        y, last = y.transpose(2, 0, 1, 3), [array.swapaxes(0, 1) for array in last]
    return tuple(array.astype(x.dtype) for array in (y, *last))


class RNN(OpRun):  # type: ignore[misc]  # onnx has no types
    op_domain = ""

    def _run(
        self,
        x: Any,
        w: Any,
        r: Any,
        b: Any = None,
        lengths: Any = None,
        h: Any = None,
        **attributes: Any,
    ) -> tuple[Doubles, ...]:
        return run("rnn", ["Tanh"], x, [w, r, b, None], lengths, [h], attributes)


class GRU(OpRun):  # type: ignore[misc]  # onnx has no types
    op_domain = ""

    def _run(
        self,
        x: Any,
        w: Any,
        r: Any,
        b: Any = None,
        lengths: Any = None,
        h: Any = None,
        **attributes: Any,
    ) -> tuple[Doubles, ...]:
        return run("gru", ["Sigmoid", "Tanh"], x, [w, r, b, None], lengths, [h], attributes)


class LSTM(OpRun):  # type: ignore[misc]  # onnx has no types
    op_domain = ""

    def _run(
        self,
        x: Any,
        w: Any,
        r: Any,
        b: Any = None,
        lengths: Any = None,
        h: Any = None,
        c: Any = None,
        peepholes: Any = None,
        **attributes: Any,
    ) -> tuple[Doubles, ...]:
        names = ["Sigmoid", "Tanh", "Tanh"]
        return run("lstm", names, x, [w, r, b, peepholes], lengths, [h, c], attributes)
