"""LSTM in the form of torch: directions, initial and final states, one step and several."""

from typing import Any

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
@pytest.mark.parametrize("output", [0, 1, 2])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_lstm_matches_differences(direction: str, output: int, dynamic: tuple[int, ...]) -> None:
    directions = 2 if direction == "bidirectional" else 1
    initial = [numbers(directions, BATCH, HIDDEN, seed=i) for i in (5, 6)]
    arrays = [*operands(directions), None, *initial]
    attributes: dict[str, Any] = {"direction": direction, "hidden_size": HIDDEN}
    wrt = (0,) if dynamic else (0, 5, 6)
    check_vjp(
        "LSTM", *arrays, wrt=wrt, opset=14, outputs=3, output=output, dynamic=dynamic, **attributes
    )


def test_lstm_without_biases_and_initial_states_matches_differences() -> None:
    check_vjp("LSTM", *operands(1)[:3], opset=14, hidden_size=HIDDEN)


def test_lstm_of_one_step_matches_differences() -> None:
    check_vjp("LSTM", *operands(2, 1), direction="bidirectional", hidden_size=HIDDEN)


def test_lstm_with_unknown_number_of_steps_is_refused() -> None:
    with pytest.raises(
        ModelError,
        match=r"needs a fixed number of steps; fix the size of the images \(--size H,W\)",
    ):
        check_vjp("LSTM", *operands(1), hidden_size=HIDDEN, dynamic=(0,), name_by_size=False)
