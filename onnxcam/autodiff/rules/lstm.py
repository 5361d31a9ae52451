"""LSTM over a fixed number of steps: backpropagation through time, written out.

The outputs hold the state h of every step, so that all gates are computed at once. What is left step by step
is c, forwards, and the cotangents of h and c, backwards; Hochreiter & Schmidhuber 1997, gates of ONNX.
Tensors are (steps, directions, batch, features), in the order that each direction walks the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from onnxcam.autodiff.rule_table import Rules
from onnxcam.errors import ModelError
from onnxcam.graph.slicing import full_like, slice_axes
from onnxcam.graph.value import Value, np

rules = Rules()
Maybe: TypeAlias = Value | None
MOST_STEPS = 4096  # each of them gets nodes of its own
PLAIN = ["Sigmoid", "Tanh", "Tanh"]


@dataclass(frozen=True)
class Cell:
    """The values of the gates of all steps: of input, output and forgetting, and what is new."""

    i: Value
    o: Value
    f: Value
    g: Value


@dataclass(frozen=True)
class Cotangents:
    """Of the sums that go into the gates i, o, f, g at every step, and of the first h and c."""

    sums: Value
    h: Value
    c: Value


def part(value: Value, index: int, axis: int, count: int = 1) -> Value:
    """The index-th of equal parts along an axis, each `count` long."""
    return slice_axes(value, [index * count], [(index + 1) * count], [axis])


def in_time_order(value: Value, direction: str) -> Value:
    """(steps, directions, ...) between the order of time and that of each direction."""
    if direction == "forward":
        return value
    steps = value.build.constant(np.arange(value.shape[0])[::-1])
    if direction == "reverse":
        return value.build.op("Gather", value, steps, axis=0)
    ahead, back = part(value, 0, 1), part(value, 1, 1)
    return np.concatenate([ahead, value.build.op("Gather", back, steps, axis=0)], axis=1)


def gates(x: Value, w: Value, r: Value, b: Maybe, states: Value, first: Value, way: str) -> Cell:
    """All gates of all steps: sigmoid and tanh of w x + r h + b, in the order i, o, f, g."""
    steps: Any
    hidden: Any
    steps, hidden = x.shape[0], r.shape[2]
    before = np.concatenate([first, slice_axes(states, [0], [steps - 1], [0])], axis=0)
    sums = in_time_order(np.expand_dims(x, 1) @ np.swapaxes(w, 1, 2), way) + before @ np.swapaxes(
        r, 1, 2
    )
    if b is not None:
        sums = sums + np.expand_dims(part(b, 0, 1, 4 * hidden) + part(b, 1, 1, 4 * hidden), 1)
    open_, new = slice_axes(sums, [0], [3 * hidden], [3]), part(sums, 3, 3, hidden)
    shares = x.build.op("Sigmoid", open_)
    i, o, f = (part(shares, k, 3, hidden) for k in range(3))
    return Cell(i, o, f, np.tanh(new))


def through_time(
    cell: Cell, r: Value, first: Value, gh: Value, last: tuple[Value, Value]
) -> Cotangents:
    """From the cotangents of every h, and of the last h and c, to those of the sums."""
    steps: Any = cell.g.shape[0]
    i, o, f, g = cell.i, cell.o, cell.f, cell.g
    fresh, contents = i * g, [first]
    for t in range(steps):
        contents.append(part(f, t, 0) * contents[-1] + part(fresh, t, 0))
    old, squashed = np.concatenate(contents[:-1]), np.tanh(np.concatenate(contents[1:]))
    slopes = np.concatenate(
        [g * i * (1 - i), squashed * o * (1 - o), old * f * (1 - f), i * (1 - g * g)], axis=3
    )
    shown, sums = o * (1 - squashed * squashed), []
    dh, dc = last
    for t in reversed(range(steps)):
        dh = part(gh, t, 0) + dh
        dc = dh * part(shown, t, 0) + dc
        sums.append(np.concatenate([dc, dh, dc, dc], axis=3) * part(slopes, t, 0))
        dh, dc = sums[-1] @ r, dc * part(f, t, 0)
    return Cotangents(np.concatenate(sums[::-1]), dh, dc)


def lstm(
    gs: Sequence[Maybe],
    ys: Sequence[Maybe],
    x: Value,
    w: Value,
    r: Value,
    b: Maybe,
    lengths: Maybe,
    first_h: Maybe,
    first_c: Maybe,
    peepholes: Maybe,
    *,
    slot: int,
    direction: str,
    activations: Sequence[str] | None,
    clip: float | None,
    input_forget: int,
    layout: int | None,
) -> Value:
    """The cotangent of x, or of the first h (slot 5) or c (slot 6)."""
    _usual(x, activations, lengths is not None, peepholes is not None, clip, input_forget, layout)
    states = _states(ys, x, r)
    blank = full_like(part(states, 0, 0), 0.0)  # (1, directions, batch, features)
    begin_h, begin_c, end_h, end_c = (
        blank if each is None else np.expand_dims(each, 0)
        for each in (first_h, first_c, *(*gs, None, None)[1:3])
    )
    cell = gates(x, w, r, b, in_time_order(states, direction), begin_h, direction)
    shown = full_like(states, 0.0) if gs[0] is None else in_time_order(gs[0], direction)
    found = through_time(cell, r, begin_c, shown, (end_h, end_c))
    if slot == 0:
        return np.sum(in_time_order(found.sums, direction) @ w, axis=1)
    return np.squeeze(found.h if slot == 5 else found.c, axis=0)


def _usual(x: Value, activations: Sequence[str] | None, *unusual: object) -> None:
    """ModelError for a form that no exporter of vision models writes."""
    plain = PLAIN * (len(activations or PLAIN) // len(PLAIN))
    if any(unusual) or list(activations or plain) != plain:
        raise ModelError(
            f"the LSTM that reads {x.name!r} has peepholes, lengths, clip, coupled gates, the batch first or "
            "activations of its own, which have no gradient rule: export it as torch's LSTM"
        )
    if isinstance(x.shape[0], int) and x.shape[0] > MOST_STEPS:
        raise ModelError(
            f"the LSTM that reads {x.name!r} runs {x.shape[0]} steps, but gradients are written for at most "
            f"{MOST_STEPS}: choose a layer after it (`onnxcam layers`)"
        )
    if not isinstance(x.shape[0], int):
        raise ModelError(
            f"the LSTM that reads {x.name!r} has no fixed number of steps: export the model for pictures of "
            "one size"
        )


def _states(ys: Sequence[Maybe], x: Value, r: Value) -> Value:
    """h of every step, in the order of time; asked for where only the last was."""
    known = next(each for each in ys if each is not None)
    shape = (x.shape[0], r.shape[0], x.shape[1], r.shape[2])
    return ys[0] or x.build.request_output(known, 0, known.dtype, shape)


rules.outputs("LSTM", lstm, None, None, None, None, lstm, lstm)
