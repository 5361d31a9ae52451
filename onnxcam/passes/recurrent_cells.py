"""One step of RNN, GRU and LSTM: the next states, from the products of the inputs with their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from onnxcam.graph.slicing import slice_axes, slice_equal
from onnxcam.graph.tracing import Value
from onnxcam.passes.recurrent_activations import Function

States: TypeAlias = tuple[Value, ...]  # h, and c of an LSTM


@dataclass(frozen=True)
class Weights:
    """Of one direction: `w` (features, gates x hidden) for the inputs, `r` (hidden, gates x hidden) for the
    state, their biases (gates x hidden,), None if there are none, and peepholes (3 x hidden,) of an LSTM.
    """

    w: Value
    r: Value
    w_bias: Value | None
    r_bias: Value | None
    peepholes: Value | None
    hidden: int


Cell: TypeAlias = Callable[[Value, States, Weights, Sequence[Function]], States]
"""The next states from the products of one step with `w`, the states, the weights and the activations."""


def plus(value: Value, bias: Value | None) -> Value:
    """The value and its bias, if it has one."""
    return value if bias is None else value + bias


def _gate(value: Value, number: int, hidden: int) -> Value:
    return slice_equal(value, number, value.ndim - 1, hidden)


def rnn_cell(
    product: Value, states: States, weights: Weights, functions: Sequence[Function]
) -> States:
    """h = f(w x + r h)."""
    (h,), (f,) = states, functions
    return (f(product + plus(h @ weights.r, weights.r_bias)),)


def gru_cell(
    product: Value, states: States, weights: Weights, functions: Sequence[Function]
) -> States:
    """h = (1 - z) g(w x + r (reset h)) + z h."""
    (h,), (f, g), hidden = states, functions, weights.hidden
    r, r_candidate = (
        slice_axes(weights.r, [start], [end], [1])
        for start, end in ((0, 2 * hidden), (2 * hidden, 3 * hidden))
    )
    biased = plus(product, weights.r_bias)
    gates = f(slice_axes(biased, [0], [2 * hidden], [2]) + h @ r)
    z, reset = (_gate(gates, number, hidden) for number in (0, 1))
    candidate = g(_gate(biased, 2, hidden) + (reset * h) @ r_candidate)
    return ((1.0 - z) * candidate + z * h,)


def gru_cell_reset_last(
    product: Value, states: States, weights: Weights, functions: Sequence[Function]
) -> States:
    """h = (1 - z) g(w x + reset (r h)) + z h."""
    (h,), (f, g), hidden = states, functions, weights.hidden
    recurrent = plus(h @ weights.r, weights.r_bias)
    z, reset = (
        f(_gate(product, number, hidden) + _gate(recurrent, number, hidden)) for number in (0, 1)
    )
    candidate = g(_gate(product, 2, hidden) + reset * _gate(recurrent, 2, hidden))
    return ((1.0 - z) * candidate + z * h,)


def lstm_cell(
    product: Value,
    states: States,
    weights: Weights,
    functions: Sequence[Function],
    *,
    is_coupled: bool = False,
) -> States:
    """c = forget c + i g(...), h = o h(c); a coupled forget gate is 1 - i."""
    (h, c), (f, g, squash), hidden = states, functions, weights.hidden
    preactivations = product + plus(h @ weights.r, weights.r_bias)
    i, o, forget, candidate = (_gate(preactivations, number, hidden) for number in range(4))
    of_i, of_o, of_forget = (_peephole(weights, number) for number in range(3))
    i = f(_add_product(i, of_i, c))
    forget = 1.0 - i if is_coupled else f(_add_product(forget, of_forget, c))
    c = forget * c + i * g(candidate)
    return f(_add_product(o, of_o, c)) * squash(c), c


def coupled_lstm_cell(
    product: Value, states: States, weights: Weights, functions: Sequence[Function]
) -> States:
    """The cell of an LSTM whose forget gate is 1 - i."""
    return lstm_cell(product, states, weights, functions, is_coupled=True)


def _peephole(weights: Weights, number: int) -> Value | None:
    """The peephole weights of the gate i, o or forget."""
    return None if weights.peepholes is None else _gate(weights.peepholes, number, weights.hidden)


def _add_product(value: Value, weight: Value | None, c: Value) -> Value:
    return value if weight is None else value + weight * c
