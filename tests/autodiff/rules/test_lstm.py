"""LSTM: directions, states that come in and go out, one step and several, the forms that are refused."""

from typing import Any

import numpy as np
import pytest

from onnxcam.errors import ModelError
from tests.autodiff.support.check import check_vjp, numbers

STEPS, BATCH, WIDTH, HIDDEN = 4, 2, 3, 5


def operands(directions: int, steps: int = STEPS) -> list[Any]:
    """x, w, r and b."""
    shapes = [
        (steps, BATCH, WIDTH),
        (directions, 4 * HIDDEN, WIDTH),
        (directions, 4 * HIDDEN, HIDDEN),
        (directions, 8 * HIDDEN),
    ]
    return [numbers(*shape, seed=i) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize("dynamic", [(), (1,)], ids=["fixed", "free batch"])
@pytest.mark.parametrize("of", [0, 1, 2])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_lstm(direction: str, of: int, dynamic: tuple[int, ...]) -> None:
    directions = 2 if direction == "bidirectional" else 1
    first = [numbers(directions, BATCH, HIDDEN, seed=i) for i in (5, 6)]
    given = [*operands(directions), None, *first]
    more: dict[str, Any] = {"direction": direction, "hidden_size": HIDDEN}
    wrt = (0,) if dynamic else (0, 5, 6)
    check_vjp("LSTM", *given, wrt=wrt, opset=14, outputs=3, of=of, dynamic=dynamic, **more)


def test_without_biases_and_first_states() -> None:
    check_vjp("LSTM", *operands(1)[:3], opset=14, hidden_size=HIDDEN)


def test_one_step() -> None:
    check_vjp("LSTM", *operands(2, 1), direction="bidirectional", hidden_size=HIDDEN)


@pytest.mark.parametrize(
    "form",
    [
        {"clip": 0.5},
        {"input_forget": 1},
        {"activations": ["Relu", "Tanh", "Tanh"]},
    ],
    ids=str,
)
def test_refused_in_words(form: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="the LSTM that reads 'x0' has peepholes, lengths, clip"):
        check_vjp("LSTM", *operands(1), hidden_size=HIDDEN, **form)


def test_no_fixed_number_of_steps() -> None:
    with pytest.raises(ModelError, match="no fixed number of steps: export the model for images"):
        check_vjp("LSTM", *operands(1), hidden_size=HIDDEN, dynamic=(0,), alike=False)


def test_lengths_are_refused() -> None:
    lengths = np.full(BATCH, STEPS, np.int32)
    with pytest.raises(ModelError, match="lengths"):
        check_vjp("LSTM", *operands(1), lengths, opset=14, hidden_size=HIDDEN)
