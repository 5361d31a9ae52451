"""The table of the checks that are left out is complete and current, and its reasons hold."""

from collections import defaultdict

import numpy as np
import pytest

from tests.autodiff.support.differences import float64_evaluator, function
from tests.autodiff.support.exceptions import EXCEPTIONS
from tests.autodiff.support.left_out import (
    FILE,
    HOW_TO_RENEW,
    Check,
    all_checks,
    case_count_line,
    left_out,
    reason_left_out,
)
from tests.autodiff.support.wheel import input_arrays, wheel_cases

STEP_FUNCTION = "a step function, whose derivative is 0 wherever it exists"


def checks_by_reason() -> dict[str, list[Check]]:
    checks = defaultdict(list)
    for check, reason in left_out().items():
        checks[reason].append(check)
    return checks


def test_table_belongs_to_the_installed_wheel() -> None:
    """A case that vanished, or was added, changes the number of cases."""
    first = FILE.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# {case_count_line()}", (
        f"another version of onnx is installed; {HOW_TO_RENEW}"
    )
    assert left_out().keys() - set(all_checks()) == set(), f"vanished cases; {HOW_TO_RENEW}"
    assert EXCEPTIONS.keys() - wheel_cases().keys() == set()


@pytest.mark.parametrize("reason", sorted(set(left_out().values())))
def test_reason_is_current(reason: str) -> None:
    checks = checks_by_reason()[reason]
    now = {check: reason_left_out(*check) for check in checks}
    changed = {check: text for check, text in now.items() if text != reason}
    assert changed == {}, f"these were left out because of: {reason}; {HOW_TO_RENEW}"


@pytest.mark.parametrize("name", sorted({name for name, _ in checks_by_reason()[STEP_FUNCTION]}))
def test_step_function_does_not_move_with_its_input(name: str) -> None:
    """Without asking the rules: a small step changes no output."""
    case = wheel_cases()[name]
    arrays = input_arrays(name)
    (wrt,) = (n for n, array in arrays.items() if array.dtype == np.float32)
    for output in case.model.graph.output:
        f = function(float64_evaluator(case.model), arrays, wrt, output.name)
        x = arrays[wrt].astype(np.float64) + 0.0123  # off the jumps
        direction = np.random.default_rng(0).uniform(-1, 1, x.shape)
        np.testing.assert_array_equal(f(x + 1e-6 * direction), f(x))
