"""LSTM in the form of torch.nn.LSTM over a fixed number of steps: backpropagation through time, written out.
Other forms are unrolled (`passes/recurrent.py`).

The outputs hold the state h of every step, so all gates are computed at once. Only c (forward in time) and the
cotangents of h and c (backward) are computed step by step. Tensors are (steps, directions, batch, features),
the steps in the order of each direction. Hochreiter and Schmidhuber 1997, with the gates of ONNX.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph import anp
from onnxcam.graph.slicing import full_like, slice_axes, slice_equal
from onnxcam.graph.tracing import Value

rules = Rules()
MAX_STEPS = 4096  # each step gets nodes of its own
ACTIVATIONS = ["Sigmoid", "Tanh", "Tanh"]
LENGTHS, INITIAL_H, PEEPHOLES, OPERANDS = 4, 5, 7, 8  # slots, and their number


@dataclass(frozen=True)
class Gates:
    """The gates of all steps: input, output, forget, and the candidate g for the cell."""

    i: Value
    o: Value
    f: Value
    g: Value


@dataclass(frozen=True)
class Cotangents:
    """Of the preactivations of the gates i, o, f, g at every step, and of the initial h and c."""

    preactivations: Value
    h: Value
    c: Value


def in_time_order(value: Value, direction: str) -> Value:
    """(steps, directions, ...) from the order of each direction to the order of time, and vice versa."""
    if direction == "forward":
        return value
    steps = value.build.constant(np.arange(_steps(value))[::-1])
    if direction == "reverse":
        return value.build.op("Gather", value, steps, axis=0)
    forward, backward = slice_equal(value, 0, 1), slice_equal(value, 1, 1)
    return anp.concatenate([forward, value.build.op("Gather", backward, steps, axis=0)], axis=1)


def _steps(value: Value) -> int:
    steps = value.shape[0]
    assert isinstance(steps, int)  # noqa: S101  _check_form refuses all else
    return steps


def compute_gates(
    x: Value, w: Value, r: Value, b: Value | None, states: Value, initial_h: Value, direction: str
) -> Gates:
    """Sigmoid (for g: tanh) of w x + r h + b, with h of the step before, for all steps."""
    before = anp.concatenate([initial_h, slice_axes(states, [0], [_steps(x) - 1], [0])], axis=0)
    products = in_time_order(anp.expand_dims(x, 1) @ anp.swapaxes(w, 1, 2), direction)
    preactivations = products + before @ anp.swapaxes(r, 1, 2)
    if not isinstance(hidden := r.shape[2], int):
        raise ModelError(
            f"the LSTM that reads {x.name!r} needs weights of fixed sizes; "
            "export the model with fixed weights"
        )
    if b is not None:
        biases = slice_equal(b, 0, 1, 4 * hidden) + slice_equal(b, 1, 1, 4 * hidden)
        preactivations = preactivations + anp.expand_dims(biases, 1)
    first_three = slice_axes(preactivations, [0], [3 * hidden], [3])
    sigmoids = x.build.op("Sigmoid", first_three)
    i, o, f = (slice_equal(sigmoids, gate, 3, hidden) for gate in range(3))
    return Gates(i, o, f, anp.tanh(slice_equal(preactivations, 3, 3, hidden)))


def backpropagate(
    gates: Gates, r: Value, initial_c: Value, g_h: Value, g_last: tuple[Value, Value]
) -> Cotangents:
    """From the cotangents of h at every step, and of the last h and c, to those of the preactivations.

    Forward in time, c = f c + i g and h = o tanh c.
    """
    i, o, f, g = gates.i, gates.o, gates.f, gates.g
    steps, added, cells = _steps(g), i * g, [initial_c]
    for t in range(steps):
        cells.append(slice_equal(f, t, 0) * cells[-1] + slice_equal(added, t, 0))
    c_before, tanh_c = anp.concatenate(cells[:-1]), anp.tanh(anp.concatenate(cells[1:]))
    slopes = anp.concatenate(
        [g * i * (1 - i), tanh_c * o * (1 - o), c_before * f * (1 - f), i * (1 - g * g)], axis=3
    )
    dh_dc, preactivations = o * (1 - tanh_c * tanh_c), []
    g_h_step, g_c_step = g_last
    for t in reversed(range(steps)):
        g_h_step = slice_equal(g_h, t, 0) + g_h_step
        g_c_step = g_h_step * slice_equal(dh_dc, t, 0) + g_c_step
        factors = anp.concatenate([g_c_step, g_h_step, g_c_step, g_c_step], axis=3)
        preactivations.append(factors * slice_equal(slopes, t, 0))
        g_h_step, g_c_step = preactivations[-1] @ r, g_c_step * slice_equal(f, t, 0)
    return Cotangents(anp.concatenate(preactivations[::-1]), g_h_step, g_c_step)


def lstm_vjp(
    gs: Sequence[Value | None],
    ys: Sequence[Value | None],
    x: Value,
    w: Value,
    r: Value,
    b: Value | None,
    sequence_lens: Value | None,
    initial_h: Value | None,
    initial_c: Value | None,
    *,
    slot: int,
    direction: str,
) -> Value:
    """LSTM-22: the cotangent of x, of the initial h (slot 5) or of the initial c (slot 6). Since opset 7."""
    del sequence_lens  # not of this form
    _check_steps(x)
    states = _states(ys, x, r)
    zeros = full_like(slice_equal(states, 0, 0), 0.0)  # (1, directions, batch, features)
    first_h, first_c, g_last_h, g_last_c = (
        zeros if state is None else anp.expand_dims(state, 0)
        for state in (initial_h, initial_c, *(*gs, None, None)[1:3])
    )
    gates = compute_gates(x, w, r, b, in_time_order(states, direction), first_h, direction)
    g_h = full_like(states, 0.0) if gs[0] is None else in_time_order(gs[0], direction)
    cotangents = backpropagate(gates, r, first_c, g_h, (g_last_h, g_last_c))
    if slot == 0:
        return anp.sum(in_time_order(cotangents.preactivations, direction) @ w, axis=1)
    return anp.squeeze(cotangents.h if slot == INITIAL_H else cotangents.c, axis=0)


def has_form_of_torch(node: gs.Node) -> bool:
    """Whether an LSTM has the default activations, and no lengths, peepholes, clip, coupled gates or batch
    first.
    """
    names = list(node.attrs.get("activations") or ACTIVATIONS)
    is_default = names == ACTIVATIONS * (len(names) // len(ACTIVATIONS))
    inputs = [*node.inputs, *[gs.Variable.empty()] * OPERANDS]
    others = (*map(node.attrs.get, ("clip", "input_forget", "layout")),)
    return (
        is_default
        and not any(others)
        and inputs[LENGTHS].is_empty()
        and inputs[PEEPHOLES].is_empty()
    )


def _check_steps(x: Value) -> None:
    """ModelError for an unknown number of steps, or too many."""
    if isinstance(x.shape[0], int) and x.shape[0] > MAX_STEPS:
        raise ModelError(
            f"the LSTM that reads {x.name!r} runs {x.shape[0]} steps, but gradients are written for at most "
            f"{MAX_STEPS}; choose a layer after it (`onnxcam layers`)"
        )
    if not isinstance(x.shape[0], int):
        raise ModelError(
            f"the LSTM that reads {x.name!r} needs a fixed number of steps; fix the size of the images "
            "(--size H,W), or export the model for images of one size"
        )


def _states(ys: Sequence[Value | None], x: Value, r: Value) -> Value:
    """h of every step in the order of time, requested from the node if it returned only the last."""
    if ys[0] is not None:
        return ys[0]
    output = next(y for y in ys if y is not None)
    shape = (x.shape[0], r.shape[0], x.shape[1], r.shape[2])
    return x.build.request_output(output, 0, output.dtype, shape)


rules.outputs(
    "LSTM", lstm_vjp, None, None, None, None, lstm_vjp, lstm_vjp, covers=has_form_of_torch
)
