"""RNN, GRU and the LSTMs that torch does not write: every attribute, against differences of a slow loop."""

from typing import Any

import numpy as np
import pytest

from onnxcam.errors import ModelError
from tests.autodiff.support.check import check_vjp, numbers

STEPS, BATCH, WIDTH, HIDDEN = 4, 3, 2, 3
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
ACTIVATIONS = {"RNN": 1, "GRU": 2, "LSTM": 3}
OPERATORS = [*GATES]
LENGTHS = np.array([4, 1, 2], np.int32)
NAMES = (
    *("Relu", "Tanh", "Sigmoid", "Softsign", "Softplus", "LeakyRelu", "ThresholdedRelu", "Elu"),
    *("Affine", "ScaledTanh", "HardSigmoid"),
)
FACTORS = {"activation_alpha": [0.4] * 3, "activation_beta": [0.3] * 3}


def operands(operator: str, directions: int = 1, steps: int = STEPS) -> list[Any]:
    """x, w, r and b."""
    rows = GATES[operator] * HIDDEN
    shapes = [
        (steps, BATCH, WIDTH),
        (directions, rows, WIDTH),
        (directions, rows, HIDDEN),
        (directions, 2 * rows),
    ]
    return [numbers(*shape, seed=i) for i, shape in enumerate(shapes)]


def states(operator: str, directions: int = 1) -> list[Any]:
    """The initial states."""
    count = 2 if operator == "LSTM" else 1
    return [numbers(directions, BATCH, HIDDEN, seed=5 + i) for i in range(count)]


def check(operator: str, *arrays: Any, **settings: Any) -> None:
    outputs = 3 if operator == "LSTM" else 2
    check_vjp(
        operator, *arrays, **{"opset": 14, "outputs": outputs, "hidden_size": HIDDEN, **settings}
    )


@pytest.mark.parametrize("dynamic", [(), (1,)], ids=["fixed", "free batch"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_recurrent_with_lengths_and_states_matches_differences(
    operator: str, direction: str, dynamic: tuple[int, ...]
) -> None:
    directions = 2 if direction == "bidirectional" else 1
    arrays = [*operands(operator, directions), LENGTHS, *states(operator, directions)]
    wrt = (0,) if dynamic else tuple(slot for slot in range(len(arrays)) if slot != 4)
    for output in (0, 1):
        check(operator, *arrays, wrt=wrt, output=output, dynamic=dynamic, direction=direction)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("operator", ["RNN", "GRU"])
def test_recurrent_without_biases_and_states_matches_differences(
    operator: str, direction: str
) -> None:
    directions = 2 if direction == "bidirectional" else 1
    check(operator, *operands(operator, directions)[:3], direction=direction, opset=7)


@pytest.mark.parametrize("has_bias", [True, False])
def test_gru_that_resets_after_the_product_matches_differences(*, has_bias: bool) -> None:
    arrays = operands("GRU", 2)[: 4 if has_bias else 3]
    check("GRU", *arrays, direction="bidirectional", linear_before_reset=1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("operator", OPERATORS)
def test_recurrent_of_other_activations_matches_differences(operator: str, name: str) -> None:
    count = ACTIVATIONS[operator]
    arrays = [0.5 * array for array in operands(operator)]
    check(operator, *arrays, activations=[name] * count, **FACTORS)


def test_recurrent_with_factors_of_some_activations_matches_differences() -> None:
    names = ["HardSigmoid", "Tanh", "LeakyRelu", "Elu", "Relu", "ScaledTanh"]
    factors = {"activation_alpha": [0.5, 0.1, 0.7, 1.5], "activation_beta": [0.4, 0.8]}
    arrays = operands("LSTM", 2)
    check("LSTM", *arrays, direction="bidirectional", activations=names, **factors)


@pytest.mark.parametrize("operator", OPERATORS)
def test_recurrent_with_clip_matches_differences(operator: str) -> None:
    for output in (0, 1):
        check(operator, *operands(operator), clip=0.7, output=output)


@pytest.mark.parametrize(
    "form",
    [{"input_forget": 1}, {"input_forget": 1, "clip": 0.6, "direction": "reverse"}, {}],
    ids=str,
)
def test_lstm_with_peepholes_matches_differences(form: dict[str, Any]) -> None:
    arrays = [*operands("LSTM"), None, *states("LSTM"), numbers(1, 3 * HIDDEN, seed=9)]
    for output in (0, 2):
        check("LSTM", *arrays, wrt=(0, 5, 6, 7), output=output, **form)


def test_lstm_with_coupled_gates_matches_differences() -> None:
    check("LSTM", *operands("LSTM", 2), direction="bidirectional", input_forget=1)


@pytest.mark.parametrize("operator", OPERATORS)
def test_recurrent_with_unknown_number_of_steps_is_refused(operator: str) -> None:
    with pytest.raises(ModelError, match=r"needs a fixed number of steps; fix the size .*--size"):
        check(operator, *operands(operator), clip=0.5, dynamic=(0,), name_by_size=False)


def test_recurrent_with_too_many_steps_is_refused() -> None:
    with pytest.raises(ModelError, match="runs 1025 steps, but it is unrolled for at most 1024"):
        check("RNN", *operands("RNN", steps=1025))
