"""Every operator case of the onnx wheel that is not in the table of those left out.

A gradient is checked against differences, and its operators must have rules themselves, so that it can be
differentiated again.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from onnxcam.autodiff.rules import DEFAULT
from onnxcam.errors import ModelError
from tests.autodiff.support.check import check_model
from tests.autodiff.support.closure import emitted_operators
from tests.autodiff.support.differences import KinkError
from tests.autodiff.support.left_out import (
    HOW_TO_RENEW,
    all_checks,
    left_out,
    prepared_check,
    refusal_reason,
)
from tests.autodiff.support.wheel import Case, LeftOutError

QUICK_ATTENTION = {  # of about a hundred cases, which take half of the time of all
    "test_attention_3d",
    "test_attention_4d_causal",
    "test_attention_4d_gqa_softcap",
    "test_attention_4d_attn_mask_bool",
    "test_attention_4d_with_past_and_present",
}


def is_slow(name: str) -> bool:
    """Whether a case is left to the complete tier: quicker cases check the same operator."""
    return name.startswith("test_attention") and name not in QUICK_ATTENTION


def parameters() -> list[Any]:
    """Every check that is not left out."""
    return [
        pytest.param(
            name,
            sizes,
            id=f"{name}-{sizes}",
            marks=[pytest.mark.slow] if is_slow(name) else [],
        )
        for name, sizes in all_checks()
        if (name, sizes) not in left_out()
    ]


@pytest.mark.parametrize(("name", "sizes"), parameters())
def test_operator(name: str, sizes: str, record_property: Callable[[str, object], None]) -> None:
    try:
        case, proto = prepared_check(name, sizes)
        kinks = [check_off_kinks(case, proto, output) for output in case.wrt]
    except LeftOutError as error:
        pytest.fail(f"{name} ({sizes}) is left out: {error}; {HOW_TO_RENEW}")
    except ModelError as refusal:
        reason = refusal_reason(refusal, case, sizes)
        pytest.fail(f"{name} ({sizes}) is left out: {reason}; {HOW_TO_RENEW}")
    if any(kinks):
        record_property("off_a_kink", "1")


def check_off_kinks(case: Case, proto: onnx.ModelProto, output: str) -> bool:
    """Check at the case's own data; moved a little, and True, only if they sit exactly on a kink."""
    wrt = case.wrt[output]
    try:
        model = check_model(proto, case.arrays, wrt, output, case.runner)
        on_kink = False
    except KinkError:
        model = check_model(proto, off_the_kink(case.arrays), wrt, output, case.runner)
        on_kink = True
    assert emitted_operators(model) - DEFAULT.keys() == set()
    return on_kink


def off_the_kink(arrays: dict[str, Any]) -> dict[str, Any]:
    generator = np.random.default_rng(7)
    return {
        name: (array + generator.uniform(0.02, 0.05, array.shape)).astype(array.dtype)
        for name, array in arrays.items()
    }
