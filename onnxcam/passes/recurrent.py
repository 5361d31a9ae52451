"""RNN, GRU and LSTM unrolled into their equations (ONNX: RNN-22, GRU-22, LSTM-22), for a fixed number of steps.

ONNX has no function bodies for them; a gradient passes through these decompositions. An LSTM in the form of
torch.nn.LSTM has a gradient rule, which is faster.

Tensors of a direction are (steps, batch, features), in its own order of the steps; states are (1, batch,
features). The gates of all steps are multiplied with the inputs at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import Dim
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.slicing import full_like, slice_axes, slice_equal
from onnxcam.graph.tracing import Value
from onnxcam.passes.decomposition import Stage, decomposes
from onnxcam.passes.recurrent_activations import Function, activation_functions
from onnxcam.passes.recurrent_cells import (
    Cell,
    States,
    Weights,
    coupled_lstm_cell,
    gru_cell,
    gru_cell_reset_last,
    lstm_cell,
    plus,
    rnn_cell,
)

MAX_STEPS = 1024  # each step gets nodes of its own


@decomposes("RNN", stage=Stage.GRADIENT)
def rnn(
    x: Value,
    w: Value,
    r: Value,
    b: Value | None = None,
    sequence_lens: Value | None = None,
    initial_h: Value | None = None,
    *,
    node: gs.Node,
    **attributes: Any,
) -> States:
    """Y and Y_h. ModelError for a number of steps, or weights, of unknown size."""
    del attributes  # read from the node
    return _unroll(node, rnn_cell, x, [w, r, b], sequence_lens, [initial_h], ["Tanh"])


@decomposes("GRU", stage=Stage.GRADIENT)
def gru(
    x: Value,
    w: Value,
    r: Value,
    b: Value | None = None,
    sequence_lens: Value | None = None,
    initial_h: Value | None = None,
    *,
    node: gs.Node,
    linear_before_reset: int = 0,
    **attributes: Any,
) -> States:
    """Y and Y_h. ModelError for a number of steps, or weights, of unknown size."""
    del attributes  # read from the node
    cell = gru_cell_reset_last if linear_before_reset else gru_cell
    return _unroll(node, cell, x, [w, r, b], sequence_lens, [initial_h], ["Sigmoid", "Tanh"])


@decomposes("LSTM", stage=Stage.GRADIENT)
def lstm(
    x: Value,
    w: Value,
    r: Value,
    b: Value | None = None,
    sequence_lens: Value | None = None,
    initial_h: Value | None = None,
    initial_c: Value | None = None,
    peepholes: Value | None = None,
    *,
    node: gs.Node,
    input_forget: int = 0,
    **attributes: Any,
) -> States:
    """Y, Y_h and Y_c. ModelError for a number of steps, or weights, of unknown size."""
    del attributes  # read from the node
    cell = coupled_lstm_cell if input_forget else lstm_cell
    return _unroll(
        node,
        cell,
        x,
        [w, r, b, peepholes],
        sequence_lens,
        [initial_h, initial_c],
        ["Sigmoid", "Tanh", "Tanh"],
    )


def _unroll(
    node: gs.Node,
    cell: Cell,
    x: Value,
    weights: Sequence[Value | None],
    lengths: Value | None,
    initial: Sequence[Value | None],
    defaults: Sequence[str],
) -> States:
    """All outputs of the operator, which are stacked from those of its directions."""
    axes = [1, 0, 2] if node.attrs.get("layout", 0) else [0, 1, 2]
    _check_sizes(node.op, x, x.shape[axes[0]], weights[1])
    x = _transposed(x, axes)
    initial = [state if state is None else _transposed(state, axes) for state in initial]
    direction = node.attrs.get("direction", "forward")
    orders = ["forward", "reverse"] if direction == "bidirectional" else [direction]
    functions = activation_functions(node.attrs, defaults, len(orders))
    outputs = [
        _run_direction(
            cell,
            _ordered(x, order, lengths),
            _weights_of(weights, number),
            [state if state is None else slice_equal(state, number, 0) for state in initial],
            functions[number],
            lengths,
        )
        for number, order in enumerate(orders)
    ]
    states = [
        anp.expand_dims(_ordered(hs, order, lengths), 1)
        for (hs, *_), order in zip(outputs, orders, strict=True)
    ]
    y = anp.concatenate(states, axis=1)
    last = (anp.concatenate(list(parts), axis=0) for parts in zip(*outputs, strict=True))
    _, *last_states = last
    y = _transposed(y, [2, 0, 1, 3]) if axes[0] else y
    return (y, *(_transposed(state, axes) for state in last_states))


def _transposed(value: Value, axes: Sequence[int]) -> Value:
    return value if list(axes) == sorted(axes) else anp.transpose(value, axes)


def _check_sizes(operator: str, x: Value, steps: Dim, r: Value | None) -> None:
    """ModelError for an unknown number of steps, or too many of them, and for weights of unknown size."""
    subject = f"the {operator} that reads {x.name!r}"
    if r is None or not isinstance(r.shape[2], int):
        raise ModelError(
            f"{subject} needs weights of fixed sizes; export the model with fixed weights"
        )
    if not isinstance(steps, int):
        raise ModelError(
            f"{subject} needs a fixed number of steps; fix the size of the images (--size H,W), or export "
            "the model for images of one size"
        )
    if steps > MAX_STEPS:
        raise ModelError(
            f"{subject} runs {steps} steps, but it is unrolled for at most {MAX_STEPS}; choose a layer "
            "after it (`onnxcam layers`)"
        )


def _weights_of(weights: Sequence[Value | None], number: int) -> Weights:
    """The weights of one direction of an operator."""
    of_direction = [
        None if value is None else anp.squeeze(slice_equal(value, number, 0), axis=0)
        for value in (*weights, None)[:4]
    ]
    w, r, b, peepholes = of_direction
    assert w is not None and r is not None  # noqa: S101, PT018  inputs that every node has
    rows, hidden = r.shape
    assert isinstance(rows, int) and isinstance(hidden, int)  # noqa: S101, PT018  checked before
    w_bias, r_bias = (None if b is None else slice_equal(b, half, 0, rows) for half in (0, 1))
    return Weights(anp.swapaxes(w, 0, 1), anp.swapaxes(r, 0, 1), w_bias, r_bias, peepholes, hidden)


def _ordered(value: Value, order: str, lengths: Value | None) -> Value:
    """The steps in the order of a direction, from the order of time, and vice versa."""
    if order == "forward":
        return value
    if lengths is not None:
        return value.build.op(
            "ReverseSequence", value, lengths.astype(np.int64), time_axis=0, batch_axis=1
        )
    steps = value.build.constant(np.arange(_size(value))[::-1])
    return value.build.op("Gather", value, steps, axis=0)


def _size(value: Value) -> int:
    steps = value.shape[0]
    assert isinstance(steps, int)  # noqa: S101  _check_sizes refuses all else
    return steps


def _run_direction(
    cell: Cell,
    x: Value,
    weights: Weights,
    initial: Sequence[Value | None],
    functions: Sequence[Function],
    lengths: Value | None,
) -> list[Value]:
    """h of every step, 0 after the end of a sequence, and the last states."""
    products = plus(x @ weights.w, weights.w_bias)
    zeros = full_like(slice_axes(products, [0, 0], [1, weights.hidden], [0, 2]), 0.0)
    states, hs = tuple(zeros if state is None else state for state in initial), []
    for t in range(_size(x)):
        after = cell(slice_equal(products, t, 0), states, weights, functions)
        if lengths is None:
            states = after
            hs.append(after[0])
            continue
        runs = anp.reshape(lengths > t, [1, -1, 1])
        states = tuple(anp.where(runs, *pair) for pair in zip(after, states, strict=True))
        hs.append(anp.where(runs, after[0], zeros))
    return [anp.concatenate(hs, axis=0), *states]
